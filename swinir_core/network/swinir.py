"""SwinIR (Liang et al. 2021, arXiv 2108.10257), top to bottom as in figure 2 of the paper.

Shallow feature extraction, deep feature extraction by residual Swin transformer blocks (RSTB),
reconstruction. Parameter names are the reference implementation's, so official weights load as
they are; masks and index tables are made from the input size and never saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available

from ..reports import Report, to_nobody
from .config import SwinIRConfig
from .layers import LayerFactory, pixel_shuffles, residual_conv
from .memory import estimate_memory
from .plan import Area, Sweeps, WindowPlan, cut, enlarged, keep_plan, reusing_plans, take_plan
from .swin_layer import SwinTransformerLayer
from .windows import NOT_WRAPPED

HEAD_SWEEPS = 3
"""Work of the reconstruction, in sweeps over the features; it takes about as long as one to
seven Swin layers."""

CPU_PIXELS_AT_ONCE = 2**13
"""Input pixels up to which small images are run together on a CPU. Frames of 16x16 are three times
as fast for it and those of 32x32 1.4 times; from 64x64 on nothing is gained."""

GPU_PIXELS_AT_ONCE = 2**18
"""Input pixels up to which images are run together on other devices; chosen, not measured."""


class SwinIR(nn.Module):
    """The whole network: (B, C, H, W) in 0..1 to (B, C, scale * H, scale * W), not clamped.

    Any size from 1x1 is padded to whole windows by reflection and cropped back. The input's type
    is the type of the arithmetic. A network in half precision is made so, by ``dtype``: its norms
    stay in float32, as the residual stream does, so ``network.half()`` does not give one.

    Differentiable: on a CPU in float32 once, otherwise as often as wanted.

    ``operations`` supplies ``Linear``, ``Conv2d`` and ``LayerNorm``. The constructor draws no
    random numbers of its own; ``initialisation.init_weights`` gives the paper's initialisation.
    """

    def __init__(
        self,
        config: SwinIRConfig,
        operations: Any = torch.nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        layers = LayerFactory(operations, device, dtype)
        dim = config.embed_dim

        # Shallow feature extraction
        conv_first = layers.conv(config.in_channels * config.start_unshuffle**2, dim)
        if config.start_unshuffle > 1:
            conv_first = nn.Sequential(nn.PixelUnshuffle(config.start_unshuffle), conv_first)
        self.conv_first = conv_first

        # Deep feature extraction
        self.patch_embed = PatchEmbed(dim, config.patch_norm, layers)
        if config.ape:
            self.absolute_pos_embed = layers.parameter(1, config.img_size**2, dim)
        self.layers = nn.ModuleList(
            RSTB(config, depth, num_heads, layers)
            for depth, num_heads in zip(config.depths, config.num_heads, strict=True)
        )
        self.norm = layers.norm(dim)
        self.conv_after_body = residual_conv(config, layers)

        # Reconstruction
        channels, feat = config.in_channels, config.num_feat
        if config.upsampler in ("pixelshuffle", "nearest+conv"):
            self.conv_before_upsample = nn.Sequential(layers.conv(dim, feat), nn.LeakyReLU(0.01))
        if config.upsampler == "pixelshuffle":
            self.upsample = pixel_shuffles(config.upscale, feat, layers)
            self.conv_last = layers.conv(feat, channels)
        elif config.upsampler == "pixelshuffledirect":
            to_pixels = layers.conv(dim, channels * config.upscale**2)
            self.upsample = nn.Sequential(to_pixels, nn.PixelShuffle(config.upscale))
        elif config.upsampler == "nearest+conv":
            for doubling in range(1, config.upscale.bit_length()):
                self.add_module(f"conv_up{doubling}", layers.conv(feat, feat))
            self.conv_hr = layers.conv(feat, feat)
            self.conv_last = layers.conv(feat, channels)
        else:
            self.conv_last = layers.conv(dim, channels)

    tile_pixels = math.inf

    def half_types(self, _: torch.device) -> tuple[torch.dtype, ...]:
        """List both half precisions; the range of bfloat16 is that of float32."""
        return torch.bfloat16, torch.float16

    def measure(self, *_: object) -> bool:
        """Find out nothing: ``estimate_memory`` knows all layers."""
        return False

    def at_once(
        self, pixels: int, count: int, _: torch.dtype, device: torch.device, wanted: int | None
    ) -> int:
        """Find how many of ``count`` images of ``pixels`` input pixels are run together."""
        pixels_at_once = CPU_PIXELS_AT_ONCE if device.type == "cpu" else GPU_PIXELS_AT_ONCE
        return max(min(count, wanted or pixels_at_once // pixels), 1)

    def wrapping(self, wrapped: tuple[bool, bool]) -> Callable[[Tensor, Report], Tensor]:
        """Return the call for images that are wrapped, as in ``forward``."""
        return partial(self, wrapped=wrapped)

    @property
    def scale(self) -> int:
        return self.config.scale

    @property
    def in_channels(self) -> int:
        return self.config.in_channels

    @property
    def alignment(self) -> int:
        """Input pixels per window side; sizes that are multiples of it need no padding."""
        return self.config.alignment

    def set_drop_path(self, rate: float) -> None:
        """Set stochastic depth for training: linearly from 0 in the first Swin layer to ``rate`` in
        the last, as in the reference implementation."""
        rates = torch.linspace(0, rate, len(self.stages)).tolist()
        for layer, probability in zip(self.stages, rates, strict=True):
            layer.drop_path = probability

    @property
    def stages(self) -> list[SwinTransformerLayer]:
        """The Swin layers, which take most of the time of a run."""
        return [layer for layer in self.modules() if isinstance(layer, SwinTransformerLayer)]

    def reusing_plans(self) -> AbstractContextManager[None]:
        """Let images of one size that are run one after another share all that depends on the size
        only, and the memory their layers work in."""
        return reusing_plans()

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        """Estimate the peak growth in bytes while ``batch`` images of this size run together."""
        return estimate_memory(self.config, height, width, batch, dtype, device)

    def forward(
        self, x: Tensor, report: Report = to_nobody, wrapped: tuple[bool, bool] = NOT_WRAPPED
    ) -> Tensor:
        """Restore images: equations 1 to 3 of the paper.

        Args:
            x: (B, C, H, W) in 0..1, any size from 1x1, of the type of the weights.
            report: Called after every few windows or rows, unless gradients are wanted.
            wrapped: Whether the images continue from bottom to top, and from right to left; these
                sides must be multiples of ``alignment``. Shifted windows then reach around the
                edges without a mask, and so do convolutions.

        Returns:
            (B, C, scale * H, scale * W) about 0..1, not clamped, of the type of ``x``.
        """
        height, width = x.shape[-2:]
        config = self.config
        mean = x.new_tensor(config.mean).view(1, -1, 1, 1)

        x = pad_to_multiple(x, config.alignment)
        x = (x - mean) * config.img_range
        # What the plan has to know of the features: their shape, and the type they will have.
        dtype = autocast_dtype(x.device.type) or x.dtype
        sides = [side // config.start_unshuffle for side in x.shape[-2:]]
        features = x.new_empty(1, dtype=dtype).expand(len(x), config.embed_dim, *sides)
        keeps_graph = self.keeps_graph(x)
        sweeps = Sweeps(to_nobody if keeps_graph else report, self.sweeps)
        plan = take_plan(features, config.window_size, keeps_graph, wrapped, sweeps)
        shallow = plan.convolve(self.conv_first, x)
        y = self.reconstruct(self.deep_features(shallow, plan), plan)
        keep_plan(plan)
        for strip, its_input in zip(plan.parts(y), plan.parts(x), strict=True):
            if config.upsampler == "none":
                strip += its_input
            strip.div_(config.img_range).add_(mean)
        return y[..., : height * config.scale, : width * config.scale]

    @property
    def sweeps(self) -> int:
        """Sweeps over the features that a pass makes: of every RSTB a copy, its layers and a
        convolution, and around them the first convolution, two norms, the last convolution and the
        reconstruction."""
        return sum(depth + 2 for depth in self.config.depths) + 4 + HEAD_SWEEPS

    def keeps_graph(self, x: Tensor) -> bool:
        """Tell whether gradients are wanted of a run on ``x``; then nothing may be overwritten."""
        return torch.is_grad_enabled() and (
            x.requires_grad or any(parameter.requires_grad for parameter in self.parameters())
        )

    def deep_features(self, shallow: Tensor, plan: WindowPlan) -> Tensor:
        """Add deep features to shallow ones, (windows, N, embed_dim) in and out; equation 2."""
        x = self.patch_embed(shallow, plan)
        if self.config.ape:
            size = (plan.height, plan.columns * plan.size)
            position = self.position_embedding(*size).to(x.device)
            x = x + plan.to_windows(position.expand(plan.batch, -1, -1, -1))
        for rstb in self.layers:
            x = rstb(x, plan)
        y = self.normalise(x, plan)
        return plan.add_convolved(shallow, self.conv_after_body, y, self.config.conv_margin)

    def normalise(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """The norm after the last RSTB, (windows, N, C) in and out."""
        return plan.run(lambda part, _: self.norm(part), x, shifted=False)

    def position_embedding(self, height: int, width: int) -> Tensor:
        """The absolute position embedding, (1, embed_dim, height, width).

        Resampled where the size differs from that of the training patches, where the reference
        implementation cannot run.
        """
        side = self.config.img_size
        embedding = self.absolute_pos_embed.unflatten(1, (side, side)).movedim(-1, 1)
        if (height, width) == (side, side):
            return embedding
        return F.interpolate(embedding, (height, width), mode="bicubic", align_corners=False)

    def reconstruct(self, windows: Tensor, plan: WindowPlan) -> Tensor:
        """Reconstruct (windows, N, embed_dim) features as (B, C, upscale * h, upscale * w) pixels.

        A few rows at a time, because at full size these features outgrow those of the body.
        """
        upscale = self.config.upscale
        margin = self.config.head_margin
        if plan.keeps_graph:
            return self.reconstruct_strip(*plan.all_features(windows, margin, plan.dtype), plan)
        size = (plan.height * upscale, plan.columns * plan.size * upscale)
        out = windows.new_empty(plan.batch, self.config.in_channels, *size, dtype=plan.dtype)
        for top, bottom in plan.strips():
            strip = plan.strip(windows, (top, bottom), margin, plan.dtype)
            out[:, :, top * upscale : bottom * upscale] = self.reconstruct_strip(*strip, plan)
            plan.sweeps.advance(HEAD_SWEEPS * (bottom - top) / plan.height)
        return out

    def reconstruct_strip(self, kept: Area, x: Tensor, plan: WindowPlan) -> Tensor:
        """Reconstruct the ``kept`` area of (B, embed_dim, h, w) features as pixels.

        Paper section 3.1; layers and slopes as in the reference implementation. Reports after its
        long convolutions, for a strip of a wide image takes seconds.
        """
        upscale, report = self.config.upscale, plan.sweeps.advance
        match self.config.upsampler:
            case "pixelshuffle":
                x = self.conv_before_upsample(x)
                for step in self.upsample:
                    report()
                    x = step(x)
                report()
                x = self.conv_last(x)
            case "pixelshuffledirect":
                x = self.upsample(x)
            case "nearest+conv":
                x = self.conv_before_upsample(x)
                for doubling in range(1, upscale.bit_length()):
                    # All later convolutions together see less than two of these pixels beyond.
                    kept, x = cut(kept, x, 2)
                    kept, x = enlarged(kept, 2), F.interpolate(x, scale_factor=2, mode="nearest")
                    report()
                    x = F.leaky_relu(self.get_submodule(f"conv_up{doubling}")(x), 0.2)
                report()
                x = F.leaky_relu(self.conv_hr(x), 0.2)
                report()
                return self.conv_last(x)[kept]
            case _:
                x = self.conv_last(x)
        return x[enlarged(kept, upscale)]


class PatchEmbed(nn.Module):
    """Patches are single pixels here, so all that is left of the embedding is its norm."""

    def __init__(self, dim: int, patch_norm: bool, layers: LayerFactory) -> None:
        super().__init__()
        self.norm = layers.norm(dim) if patch_norm else None

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """(windows, N, C) of the residual stream in, and others out, which may be overwritten."""
        return plan.map(self.norm or torch.clone, x)


class RSTB(nn.Module):
    """Residual Swin transformer block: Swin layers, a convolution, a shortcut (equation 7)."""

    def __init__(
        self, config: SwinIRConfig, depth: int, num_heads: int, layers: LayerFactory
    ) -> None:
        super().__init__()
        self.residual_group = ResidualGroup(config, depth, num_heads, layers)
        self.conv = residual_conv(config, layers)
        self.conv_margin = config.conv_margin

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """(windows, N, C) of the residual stream in and out."""
        y = self.residual_group(plan.working_copy(x), plan)
        return plan.add_convolved(x, self.conv, y, self.conv_margin)


class ResidualGroup(nn.Module):
    """Swin layers, every second one with shifted windows."""

    def __init__(
        self, config: SwinIRConfig, depth: int, num_heads: int, layers: LayerFactory
    ) -> None:
        super().__init__()
        shifts = config.img_size > config.window_size > 1
        self.blocks = nn.ModuleList(
            SwinTransformerLayer(config, num_heads, shifts and i % 2 == 1, layers)
            for i in range(depth)
        )

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        for block in self.blocks:
            x = block(x, plan)
        return x


def autocast_dtype(device_type: str) -> torch.dtype | None:
    """Return the type that convolutions compute in under ``torch.autocast``, or None without it."""
    # Asking for a kind of device that has no autocast, such as meta, is an error since torch 2.13.
    if is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return None


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Reflect (B, C, H, W) at the bottom and right edge up to multiples of ``multiple``.

    Equal to ``F.pad(..., mode="reflect")`` where that exists; an image smaller than its padding is
    reflected back and forth.
    """
    for dim in (-2, -1):
        size = x.shape[dim]
        padded = -(-size // multiple) * multiple
        if padded != size:
            period = max(2 * (size - 1), 1)
            position = torch.arange(padded, device=x.device) % period
            x = x.index_select(dim, torch.minimum(position, period - position))
    return x
