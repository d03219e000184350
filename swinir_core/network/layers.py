"""Leaf layers of the network and stacks of these, made from a replaceable namespace."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .config import SwinIRConfig


class LayerFactory:
    """Makes every layer that owns weights, on one device and in one precision.

    ``operations`` is a namespace with ``Linear``, ``Conv2d`` and ``LayerNorm``: ``torch.nn``, or a
    host's own, whose layers may stream or cast their weights.
    """

    def __init__(
        self, operations: Any, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        self.operations = operations
        self.device = device
        self.dtype = dtype
        # The residual stream stays in float32 under half precision, and norms read it.
        half = dtype in (torch.float16, torch.bfloat16)
        self.norm_dtype = torch.float32 if half else dtype

    def linear(self, in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
        return self.operations.Linear(
            in_features, out_features, bias=bias, device=self.device, dtype=self.dtype
        )

    def conv(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Module:
        """A convolution that keeps the image size."""
        return self._conv(in_channels, out_channels, kernel_size, self.dtype)

    def stream_conv(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> nn.Module:
        """A convolution that reads the residual stream, which float16 does not hold."""
        dtype = torch.float32 if self.dtype == torch.float16 else self.dtype
        return self._conv(in_channels, out_channels, kernel_size, dtype)

    def norm(self, channels: int) -> nn.Module:
        return self.operations.LayerNorm(channels, device=self.device, dtype=self.norm_dtype)

    def parameter(self, *shape: int) -> nn.Parameter:
        return nn.Parameter(torch.zeros(shape, device=self.device, dtype=self.norm_dtype))

    def _conv(
        self, in_channels: int, out_channels: int, kernel_size: int, dtype: torch.dtype | None
    ) -> nn.Module:
        return self.operations.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            padding=kernel_size // 2,
            device=self.device,
            dtype=dtype,
        )


def residual_conv(config: SwinIRConfig, layers: LayerFactory) -> nn.Module:
    """Make the convolution before a residual connection: one, or a bottleneck of three."""
    dim, narrow = config.embed_dim, config.embed_dim // 4
    if config.resi_connection == "1conv":
        return layers.stream_conv(dim, dim)
    return nn.Sequential(
        layers.stream_conv(dim, narrow),
        nn.LeakyReLU(0.2),
        layers.stream_conv(narrow, narrow, kernel_size=1),
        nn.LeakyReLU(0.2),
        layers.stream_conv(narrow, dim),
    )


def pixel_shuffles(upscale: int, feat: int, layers: LayerFactory) -> nn.Sequential:
    """Make convolutions and shuffles that enlarge by 3 once, or by 2 as often as needed."""
    factors = [3] if upscale == 3 else [2] * (upscale.bit_length() - 1)
    steps: list[nn.Module] = []
    for factor in factors:
        steps += [layers.conv(feat, feat * factor**2), nn.PixelShuffle(factor)]
    return nn.Sequential(*steps)
