"""How features are laid out while Swin layers run, and the loops over windows and rows.

From the first convolution to the last the features are kept as windows: (windows, N, C), N tokens
a window, the windows of the unshifted grid one after another. A layer with regular windows then
works on plain slices; a shifted layer gathers the tokens of its windows by index and puts them
back, so nothing is rolled or partitioned anew. Since no window sees another, a layer runs over a
bounded number of windows at a time, in place; a convolution runs over a bounded number of rows and
is added in place. Their temporaries stay in the cache whatever the image size. That is where the
speed comes from: on a CPU most of the time of doing everything at once is spent on touching new
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from einops import rearrange
from torch import Tensor, nn

from .memory import CONV_MARGIN, strip_rows, tokens_at_once

MASKED = -100.0
"""Added to the logits of token pairs that are not neighbours; models were trained with it."""

Layer: TypeAlias = Callable[[Tensor, "Tensor | None"], Tensor]
"""(windows, N, C), and a mask to add to their logits, to (windows, N, C)."""


@dataclass(frozen=True)
class ShiftedWindows:
    """Those windows of the shifted grid that share a mask."""

    index: Tensor
    """(windows, N) int64: where the tokens of each window are among all tokens."""

    mask: Tensor | None
    """(N, N) float32 to add to the logits; ``None`` for windows inside the image."""


@dataclass(frozen=True)
class WindowPlan:
    """What all layers of one forward pass share, computed once and handed down."""

    size: int
    """Side of a window, in feature pixels."""

    batch: int
    rows: int
    """Windows from top to bottom."""

    columns: int
    """Windows from left to right."""

    dtype: torch.dtype
    """Type of the heavy arithmetic; the residual stream is never narrower than float32."""

    bias_index: Tensor
    """(N*N,) int64: the row of a relative position bias table for each token pair."""

    shifted: tuple[ShiftedWindows, ...]
    """The shifted grid. After the cyclic shift of the paper only its last row and column hold
    tokens that are not neighbours, and only these have a mask."""

    windows_at_once: int
    """How many windows a layer runs over at a time."""

    strip_rows: int
    """How many rows of features a convolution runs over at a time; whole windows."""

    room: Tensor | None
    """(windows, N, C), what a group of layers works on; ``None`` where gradients are wanted, so
    that nothing may be overwritten."""

    @classmethod
    def build(cls, features: Tensor, size: int, keeps_graph: bool) -> WindowPlan:
        """The plan for ``features`` (B, C, H, W), whose sides are multiples of ``size``."""
        batch, channels, height, width = features.shape
        windows = batch * height * width // size**2
        device, dtype = features.device, features.dtype
        position = torch.arange(size, device=device)
        row, column = (grid.flatten() for grid in torch.meshgrid(position, position, indexing="ij"))
        row_offset = row[:, None] - row + size - 1
        column_offset = column[:, None] - column + size - 1
        return cls(
            size=size,
            batch=batch,
            rows=height // size,
            columns=width // size,
            dtype=dtype,
            bias_index=(row_offset * (2 * size - 1) + column_offset).flatten(),
            shifted=_shifted_windows(batch, height, width, size, row, column),
            windows_at_once=max(tokens_at_once(device, keeps_graph) // size**2, 1),
            strip_rows=strip_rows(batch * width, size, device),
            room=None
            if keeps_graph
            else torch.empty(
                *(windows, size**2, channels), dtype=_residual_dtype(dtype), device=device
            ),
        )

    def serves(self, features: Tensor, keeps_graph: bool) -> bool:
        """Whether this does for other features (B, C, H, W) of the same network."""
        batch, _, height, width = features.shape
        return (
            (self.batch, self.height, self.columns * self.size) == (batch, height, width)
            and (self.dtype, self.bias_index.device) == (features.dtype, features.device)
            and self.keeps_graph == keeps_graph
            and self.bias_index.is_inference() == torch.is_inference_mode_enabled()
        )

    @property
    def keeps_graph(self) -> bool:
        """Whether gradients are wanted."""
        return self.room is None

    @property
    def height(self) -> int:
        """Rows of features."""
        return self.rows * self.size

    @property
    def conv_dtype(self) -> torch.dtype:
        """Of the convolutions that read the residual stream: float16 would not hold it."""
        return torch.float32 if self.dtype == torch.float16 else self.dtype

    def to_windows(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (windows, N, C) in the type of the residual stream."""
        windows = rearrange(
            features, "b c (nh h) (nw w) -> (b nh nw) (h w) c", h=self.size, w=self.size
        )
        return windows.to(_residual_dtype(self.dtype)).contiguous()

    def to_features(self, windows: Tensor) -> Tensor:
        """(windows, N, C) to (B, C, H, W), stored channels last."""
        features = rearrange(
            windows,
            "(b nh nw) (h w) c -> b (nh h) (nw w) c",
            b=self.batch,
            nh=self.rows,
            h=self.size,
        )
        return features.movedim(-1, 1)

    def working_copy(self, x: Tensor) -> Tensor:
        """(windows, N, C) that may be overwritten."""
        return x if self.room is None else self.room.copy_(x)

    def run(self, layer: Layer, x: Tensor, shifted: bool) -> Tensor:
        """``layer`` of all windows of ``x`` (windows, N, C) at once, with gradients."""
        if not shifted:
            return layer(x, None)
        there, back = self._order
        windows = permute(x.flatten(0, 1), there, back).view_as(x)
        return permute(layer(windows, self._masks).flatten(0, 1), back, there).view_as(x)

    @cached_property
    def _order(self) -> tuple[Tensor, Tensor]:
        """The tokens of all shifted windows, group by group, and the way back."""
        order = torch.cat([group.index for group in self.shifted]).flatten()
        return order, order.argsort()

    @cached_property
    def _masks(self) -> Tensor:
        """(windows, 1, N, N) for all shifted windows, in the same order."""
        masks = []
        for group in self.shifted:
            count, tokens = group.index.shape
            mask = group.index.new_zeros(1) if group.mask is None else group.mask
            masks.append(mask.float().expand(count, 1, tokens, tokens))
        return torch.cat(masks)

    def run_in_place(self, layer: Layer, x: Tensor, shifted: bool) -> None:
        """``layer``, which overwrites what it is given, for all windows of ``x`` (windows, N, C),
        as many at a time as keep their temporaries small."""
        if not shifted:
            for part in x.split(self.windows_at_once):
                layer(part, None)
            return
        tokens = x.view(-1, x.shape[-1])
        for group in self.shifted:
            for index in group.index.split(self.windows_at_once):
                part = tokens.index_select(0, index.flatten()).view(*index.shape, -1)
                # Not index_copy_, which Apple's GPUs do not have in torch 2.6.
                tokens[index.flatten()] = layer(part, group.mask).flatten(0, 1)

    def add_convolved(self, x: Tensor, conv: nn.Module, y: Tensor) -> Tensor:
        """``x + conv(y)``, both (windows, N, C); in place where no gradients are wanted."""
        if self.keeps_graph:
            return x + self.to_windows(conv(self.to_features(y.to(self.conv_dtype))))
        grid = x.view(self.batch, self.rows, self.columns, self.size, self.size, -1)
        for top, bottom in self.strips():
            first, strip = self.strip(y, top, bottom, CONV_MARGIN, self.conv_dtype)
            added = conv(strip)[:, :, top - first : bottom - first]
            grid[:, top // self.size : bottom // self.size].add_(
                rearrange(added, "b c (nh h) (nw w) -> b nh nw h w c", h=self.size, w=self.size)
            )
        return x

    def strips(self) -> Iterator[tuple[int, int]]:
        """(top, bottom) rows of strips that together cover the features."""
        for top in range(0, self.height, self.strip_rows):
            yield top, min(top + self.strip_rows, self.height)

    def strip(
        self, windows: Tensor, top: int, bottom: int, margin: int, dtype: torch.dtype
    ) -> tuple[int, Tensor]:
        """The rows of a strip and ``margin`` rows around it, as far as there are any.

        Returns the number of the first row, and the rows (B, C, h, W) stored channels last.
        """
        first, last = max(top - margin, 0), min(bottom + margin, self.height)
        grid = windows.view(self.batch, self.rows, self.columns, self.size, self.size, -1)
        strip = windows.new_empty(
            (self.batch, last - first, self.columns, self.size, windows.shape[-1]), dtype=dtype
        )
        for row in range(first // self.size, -(-last // self.size)):
            start, stop = max(first, row * self.size), min(last, (row + 1) * self.size)
            inside = slice(start - row * self.size, stop - row * self.size)
            strip[:, start - first : stop - first] = grid[:, row, :, inside].movedim(2, 1)
        return first, strip.flatten(2, 3).movedim(-1, 1)


def _residual_dtype(dtype: torch.dtype) -> torch.dtype:
    """Of the residual stream, whose spread grows from block to block beyond what half holds."""
    return torch.promote_types(dtype, torch.float32)


class _Permute(torch.autograd.Function):
    """Rows in another order; the gradient of indexing would add up rows that never meet."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *inputs: Tensor) -> Tensor:
        x, order, inverse = inputs
        ctx.save_for_backward(order, inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: torch.autograd.function.FunctionCtx, gradient: Tensor
    ) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]
        return permute(gradient, inverse, order), None, None


def permute(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """``x[order]`` for a permutation of the rows and its inverse; differentiable."""
    return _Permute.apply(x, order, inverse)  # pyright: ignore[reportReturnType]


def _shifted_windows(
    batch: int, height: int, width: int, size: int, row: Tensor, column: Tensor
) -> tuple[ShiftedWindows, ...]:
    shift = size // 2
    token = torch.arange(batch * height * width, device=row.device)
    image = rearrange(
        token,
        "(b nh nw h w) -> b (nh h) (nw w)",
        b=batch,
        nh=height // size,
        h=size,
        w=size,
    )
    index = rearrange(
        image.roll((-shift, -shift), (1, 2)),
        "b (nh h) (nw w) -> b nh nw (h w)",
        h=size,
        w=size,
    )
    # The last shift rows of a bottom window come from the top of the image, likewise at the right.
    from_top, from_left = row >= size - shift, column >= size - shift
    rows_apart = from_top[:, None] != from_top
    columns_apart = from_left[:, None] != from_left
    groups = (
        (index[:, :-1, :-1], None),
        (index[:, -1:, :-1], rows_apart * MASKED),
        (index[:, :-1, -1:], columns_apart * MASKED),
        (index[:, -1:, -1:], (rows_apart | columns_apart) * MASKED),
    )
    return tuple(ShiftedWindows(part.flatten(0, 2), mask) for part, mask in groups if part.numel())
