"""The discriminators of adversarial training: one judges every pixel, one every patch."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SMALLEST = 8


class UNetDiscriminator(nn.Module):
    """U-Net with skip connections and spectral normalisation, one logit a pixel.

    Real-ESRGAN (Wang et al. 2021, arXiv 2107.10833), the section on the U-Net discriminator:
    three halvings by 4x4 convolutions of stride 2, three bilinear doublings with a 3x3 convolution
    each, and the activations of the same size added. Every convolution but the first and the last
    is divided by its largest singular value (Miyato et al. 2018), which a training forward
    re-estimates by one power iteration.

    forward: images (B, in_channels, H, W) in 0..1 to logits (B, 1, H, W), positive for real, in
    the precision of the weights, autocast or not. Raises ``ValueError`` where a side is under 8
    pixels.
    """

    def __init__(self, in_channels: int = 3, num_feat: int = 64) -> None:
        super().__init__()
        widths = [num_feat * 2**level for level in range(4)]
        self.first = nn.Conv2d(in_channels, num_feat, 3, padding=1)
        self.down = nn.ModuleList(_conv(narrow, wide, 4, 2) for narrow, wide in pairwise(widths))
        self.up = nn.ModuleList(_conv(wide, narrow, 3) for wide, narrow in pairwise(widths[::-1]))
        self.head = nn.ModuleList(_conv(num_feat, num_feat, 3) for _ in range(2))
        self.last = nn.Conv2d(num_feat, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        _check_size(image)
        # Autocast would run the power iteration in half precision too.
        with torch.autocast(image.device.type, enabled=False):
            x = _activate(self.first(image.to(self.first.weight.dtype)))
            skips = []
            for conv in self.down:
                skips.append(x)
                x = _activate(conv(x))
            for conv in self.up:
                skip = skips.pop()
                x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
                x = _activate(conv(x)) + skip
            for conv in self.head:
                x = _activate(conv(x))
            return self.last(x)


class PatchDiscriminator(nn.Module):
    """Strided convolutions with spectral normalisation, a logit for every eighth pixel.

    The patch discriminator of Isola et al. 2017 (arXiv 1611.07004, section 3.2.2) without batch
    normalisation: three halvings by 4x4 convolutions and a 3x3 one before the logits, each divided
    by its largest singular value (Miyato et al. 2018). It is many times as fast as
    ``UNetDiscriminator``, and judges texture rather than single pixels.

    forward: images (B, in_channels, H, W) in 0..1 to logits (B, 1, H // 8, W // 8); all else as
    ``UNetDiscriminator``.
    """

    def __init__(self, in_channels: int = 3, num_feat: int = 64) -> None:
        super().__init__()
        widths = [in_channels, num_feat, 2 * num_feat, 4 * num_feat]
        self.down = nn.ModuleList(_conv(narrow, wide, 4, 2) for narrow, wide in pairwise(widths))
        self.head = _conv(widths[-1], widths[-1], 3)
        self.last = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        _check_size(image)
        with torch.autocast(image.device.type, enabled=False):
            x = image.to(self.last.weight.dtype)
            for conv in (*self.down, self.head):
                x = _activate(conv(x))
            return self.last(x)


DISCRIMINATORS = {"unet": UNetDiscriminator, "patch": PatchDiscriminator}
"""By the names of the setting ``critic``."""


def _check_size(image: Tensor) -> None:
    if min(image.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"the discriminator needs at least {SMALLEST}x{SMALLEST} pixels, "
            f"got {image.shape[-2]}x{image.shape[-1]}; train on larger patches"
        )


def _conv(in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(in_channels, out_channels, kernel, stride, 1, bias=False))


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2)
