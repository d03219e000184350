"""SwinIR (Liang et al. 2021, arXiv 2108.10257), top to bottom as in figure 2 of the paper.

Shallow feature extraction, deep feature extraction by residual Swin transformer blocks (RSTB),
reconstruction. Parameter names are the reference implementation's, so official weights load as
they are; masks and index tables are made from the input size and never saved.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import SwinIRConfig
from .layers import LayerFactory
from .memory import STRIP_MARGIN, estimate_memory, strip_rows
from .window_attention import WindowAttention
from .windows import WindowPlan


class SwinIR(nn.Module):
    """The whole network: (B, C, H, W) in 0..1 to (B, C, scale * H, scale * W), not clamped.

    Any size from 1x1 is padded to whole windows by reflection and cropped back. The input's type
    is the type of the arithmetic. A network in half precision is made so, by ``dtype``: its norms
    stay in float32, as the residual stream does, so ``network.half()`` does not give one.

    ``operations`` supplies ``Linear``, ``Conv2d`` and ``LayerNorm``. The constructor draws no
    random numbers of its own; ``training.init_weights`` gives the paper's initialisation.
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

    @property
    def scale(self) -> int:
        return self.config.scale

    @property
    def in_channels(self) -> int:
        return self.config.in_channels

    @property
    def alignment(self) -> int:
        """Input pixels per window side."""
        return self.config.alignment

    @property
    def stages(self) -> list[nn.Module]:
        """The Swin layers, which take most of the time of a run."""
        return [layer for layer in self.modules() if isinstance(layer, SwinTransformerLayer)]

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device
    ) -> int:
        """Peak growth in bytes while one image of this size is run in one piece."""
        return estimate_memory(self.config, height, width, dtype=dtype, device=device)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        config = self.config
        mean = x.new_tensor(config.mean).view(1, -1, 1, 1)

        x = pad_to_multiple(x, config.alignment)
        x = (x - mean) * config.img_range
        features = self.conv_first(x)
        plan = WindowPlan.build(features, config.window_size, self.keeps_graph(x))
        features = features + self.conv_after_body(self.deep_features(features, plan))
        y = self.reconstruct_strip(features) if plan.keeps_graph else self.reconstruct(features)
        if config.upsampler == "none":
            y = x + y
        y = y / config.img_range + mean
        return y[..., : height * config.scale, : width * config.scale]

    def keeps_graph(self, x: Tensor) -> bool:
        """Whether gradients are wanted of a run on ``x``, so that nothing may be overwritten."""
        return torch.is_grad_enabled() and (
            x.requires_grad or any(parameter.requires_grad for parameter in self.parameters())
        )

    def deep_features(self, shallow: Tensor, plan: WindowPlan) -> Tensor:
        """(B, embed_dim, h, w) to the same shape; ``h`` and ``w`` are multiples of the window."""
        x = self.patch_embed(plan.to_windows(shallow))
        if self.config.ape:
            x = x + plan.to_windows(self.position_embedding(shallow))
        for rstb in self.layers:
            x = rstb(x, plan, batch=len(shallow))
        return plan.to_features(self.norm(x).to(plan.dtype), batch=len(shallow))

    def position_embedding(self, features: Tensor) -> Tensor:
        """The absolute embedding of ``features`` (B, C, h, w), resampled where the size differs
        from that of the training patches (where the reference implementation cannot run)."""
        side = self.config.img_size
        embedding = self.absolute_pos_embed.to(features.device)
        embedding = embedding.unflatten(1, (side, side)).movedim(-1, 1)
        size = features.shape[-2:]
        if size != (side, side):
            embedding = F.interpolate(embedding, size, mode="bicubic", align_corners=False)
        return embedding.expand(len(features), -1, -1, -1)

    def reconstruct(self, x: Tensor) -> Tensor:
        """(B, embed_dim, h, w) features to (B, C, upscale * h, upscale * w) pixels.

        A few rows at a time, because at full size these features outgrow those of the body.
        """
        rows = strip_rows(x.shape[-1])
        height, upscale = x.shape[-2], self.config.upscale
        if height <= rows:
            return self.reconstruct_strip(x)
        out = x.new_empty(len(x), self.config.in_channels, height * upscale, x.shape[-1] * upscale)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            first = max(top - STRIP_MARGIN, 0)
            strip = self.reconstruct_strip(x[:, :, first : bottom + STRIP_MARGIN])
            kept = slice((top - first) * upscale, (bottom - first) * upscale)
            out[:, :, top * upscale : bottom * upscale] = strip[:, :, kept]
        return out

    def reconstruct_strip(self, x: Tensor) -> Tensor:
        """The same at once."""
        match self.config.upsampler:
            case "pixelshuffle":
                return self.conv_last(self.upsample(self.conv_before_upsample(x)))
            case "pixelshuffledirect":
                return self.upsample(x)
            case "nearest+conv":
                x = self.conv_before_upsample(x)
                for doubling in range(1, self.config.upscale.bit_length()):
                    x = F.interpolate(x, scale_factor=2, mode="nearest")
                    x = F.leaky_relu(self.get_submodule(f"conv_up{doubling}")(x), 0.2)
                return self.conv_last(F.leaky_relu(self.conv_hr(x), 0.2))
            case _:
                return self.conv_last(x)


class PatchEmbed(nn.Module):
    """Patches are single pixels here, so all that is left of the embedding is its norm.

    The residual stream begins here, in at least float32: its spread grows from block to block
    beyond what half precision holds.
    """

    def __init__(self, dim: int, patch_norm: bool, layers: LayerFactory) -> None:
        super().__init__()
        self.norm = layers.norm(dim) if patch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x)


class RSTB(nn.Module):
    """Residual Swin transformer block: Swin layers, a convolution, a shortcut (equation 7)."""

    def __init__(
        self, config: SwinIRConfig, depth: int, num_heads: int, layers: LayerFactory
    ) -> None:
        super().__init__()
        self.residual_group = ResidualGroup(config, depth, num_heads, layers)
        self.conv = residual_conv(config, layers)

    def forward(self, x: Tensor, plan: WindowPlan, batch: int) -> Tensor:
        """The residual stream (windows, N, C) of ``batch`` images in and out."""
        y = self.residual_group(x, plan)
        y = self.conv(plan.to_features(y.to(plan.dtype), batch))
        return x + plan.to_windows(y)


class ResidualGroup(nn.Module):
    """Swin layers, every second one with shifted windows."""

    def __init__(
        self, config: SwinIRConfig, depth: int, num_heads: int, layers: LayerFactory
    ) -> None:
        super().__init__()
        shifts = config.img_size > config.window_size
        self.blocks = nn.ModuleList(
            SwinTransformerLayer(config, num_heads, shifts and i % 2 == 1, layers)
            for i in range(depth)
        )

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)  # Layers overwrite it.
        for block in self.blocks:
            x = block(x, plan)
        return x


class SwinTransformerLayer(nn.Module):
    """Window attention and an MLP, each after a norm and around a shortcut (equations 5, 6)."""

    def __init__(
        self, config: SwinIRConfig, num_heads: int, shifted: bool, layers: LayerFactory
    ) -> None:
        super().__init__()
        dim = config.embed_dim
        self.shifted = shifted
        self.norm1 = layers.norm(dim)
        self.attn = WindowAttention(dim, num_heads, config.window_size, config.qkv_bias, layers)
        self.norm2 = layers.norm(dim)
        self.mlp = MLP(dim, config.hidden_dim, layers)

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        bias = self.attn.position_bias(plan)

        def layer(x: Tensor, mask: Tensor | None) -> Tensor:
            masked_bias = bias if mask is None else bias + mask
            x = x + self.attn(self.norm1(x).to(plan.dtype), masked_bias)
            return x + self.mlp(self.norm2(x).to(plan.dtype))

        return plan.run(layer, x, self.shifted)


class MLP(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, dim: int, hidden_dim: int, layers: LayerFactory) -> None:
        super().__init__()
        self.fc1 = layers.linear(dim, hidden_dim)
        self.fc2 = layers.linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


def residual_conv(config: SwinIRConfig, layers: LayerFactory) -> nn.Module:
    """The convolution before a residual connection: one, or a bottleneck of three."""
    dim, narrow = config.embed_dim, config.embed_dim // 4
    if config.resi_connection == "1conv":
        return layers.conv(dim, dim)
    return nn.Sequential(
        layers.conv(dim, narrow),
        nn.LeakyReLU(0.2),
        layers.conv(narrow, narrow, kernel_size=1),
        nn.LeakyReLU(0.2),
        layers.conv(narrow, dim),
    )


def pixel_shuffles(upscale: int, feat: int, layers: LayerFactory) -> nn.Sequential:
    """Convolutions and shuffles that enlarge by 3 once, or by 2 as often as needed."""
    factors = [3] if upscale == 3 else [2] * (upscale.bit_length() - 1)
    steps: list[nn.Module] = []
    for factor in factors:
        steps += [layers.conv(feat, feat * factor**2), nn.PixelShuffle(factor)]
    return nn.Sequential(*steps)


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
