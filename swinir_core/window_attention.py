"""(Shifted-)window attention, paper section 3.1 and equations 4 to 6.

Features are channels-last maps (B, H, W, C) whose sides are multiples of the window. A shifted
layer rolls the map by half a window, so the windows of the last row and the last column then hold
pixels from opposite edges of the image. Only those border windows are masked; the reference
implementation builds a mask for every window of every layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor, nn

from .layers import LayerFactory

MASKED = -100.0
"""Added to the logits of token pairs that are not neighbours; models were trained with it."""


@dataclass(frozen=True)
class WindowPlan:
    """What all attention layers of one forward pass share, computed once and handed down."""

    size: int
    """Side of a window, in feature pixels."""

    dtype: torch.dtype
    """Type of the heavy arithmetic; the residual stream is never narrower than float32."""

    bias_index: Tensor
    """(N*N,) int64, N = size²: the row of a relative position bias table for each token pair."""

    bottom_mask: Tensor
    """(N, N) float32: added to the logits of the last row of shifted windows."""

    right_mask: Tensor
    """(N, N) float32: the same for the last column."""

    corner_mask: Tensor
    """(N, N) float32: the same for the window that is in both."""

    @classmethod
    def build(cls, size: int, device: torch.device, dtype: torch.dtype) -> WindowPlan:
        """The plan for windows of ``size`` feature pixels."""
        position = torch.arange(size, device=device)
        row, column = (grid.flatten() for grid in torch.meshgrid(position, position, indexing="ij"))
        row_offset = row[:, None] - row + size - 1
        column_offset = column[:, None] - column + size - 1
        # After the roll the last shift rows of a window come from the opposite edge.
        from_top = row >= size - size // 2
        from_left = column >= size - size // 2
        rows_apart = from_top[:, None] != from_top
        columns_apart = from_left[:, None] != from_left
        return cls(
            size,
            dtype,
            bias_index=(row_offset * (2 * size - 1) + column_offset).flatten(),
            bottom_mask=rows_apart * MASKED,
            right_mask=columns_apart * MASKED,
            corner_mask=(rows_apart | columns_apart) * MASKED,
        )


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learned relative position bias.

    ``shifted`` windows are moved down and right by half a window.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        shifted: bool,
        qkv_bias: bool,
        layers: LayerFactory,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.shift = window_size // 2 if shifted else 0
        self.relative_position_bias_table = layers.parameter((2 * window_size - 1) ** 2, num_heads)
        self.qkv = layers.linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = layers.linear(dim, dim)

    def forward(self, x: Tensor, plan: WindowPlan) -> Tensor:
        """(B, H, W, C) normalised features in, (B, H, W, C) out."""
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        rows = x.shape[1] // plan.size
        windows = rearrange(x, "b (nh h) (nw w) c -> b nh nw (h w) c", h=plan.size, w=plan.size)
        q, k, v = rearrange(
            self.qkv(windows), "b nh nw l (qkv m d) -> qkv b nh nw m l d", qkv=3, m=self.num_heads
        ).unbind()
        windows = self.proj(self.attend(q, k, v, plan))
        x = rearrange(windows, "b nh nw (h w) c -> b (nh h) (nw w) c", nh=rows, h=plan.size)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x

    def attend(self, q: Tensor, k: Tensor, v: Tensor, plan: WindowPlan) -> Tensor:
        """Equation 4: softmax(q kᵀ / sqrt(d) + bias) v.

        ``q``, ``k``, ``v`` are (B, rows, columns, heads, N, d); the result is
        (B, rows, columns, N, heads * d).
        """
        scale = q.shape[-1] ** -0.5
        logits = (q * scale) @ k.transpose(-2, -1) + self.position_bias(plan).to(q.dtype)
        if self.shift:
            logits[:, -1, :-1] += plan.bottom_mask
            logits[:, :-1, -1] += plan.right_mask
            logits[:, -1, -1] += plan.corner_mask
        out = logits.softmax(dim=-1).to(v.dtype) @ v
        return rearrange(out, "b nh nw m l d -> b nh nw l (m d)")

    def position_bias(self, plan: WindowPlan) -> Tensor:
        """(heads, N, N) of the bias table, on the plan's device."""
        table = self.relative_position_bias_table.to(plan.bias_index.device)
        return rearrange(table[plan.bias_index], "(l k) m -> m l k", l=plan.size**2)
