"""Windows as lists of tokens: the cyclic shift of the paper as an index, its mask at the borders.

From the first convolution to the last the features are kept as windows: (windows, N, C), N tokens
a window, the windows of the unshifted grid one after another. A layer with regular windows works on
plain slices; a shifted layer gathers the tokens of its windows by index and puts them back, so
nothing is rolled or partitioned again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

MASKED = -100.0
"""Added to the logits of token pairs that are not neighbours; models were trained with it."""


@dataclass(frozen=True)
class WindowGroup:
    """Windows of the shifted grid that share a mask."""

    index: Tensor
    """(windows, N) int64: the place of each token among all tokens."""

    mask: Tensor | None
    """(N, N) float32 to add to the logits; ``None`` for windows inside the image."""

    def split(self, count: int) -> Iterator[WindowGroup]:
        """Cut into groups of ``count`` windows at most."""
        return (WindowGroup(index, self.mask) for index in self.index.split(count))


def relative_position_index(size: int, device: torch.device) -> Tensor:
    """Row of a relative position bias table for each pair of tokens of a window.

    Returns (N*N,) int64 for N = ``size``², query-major; paper section 3.1, as in Swin Transformer
    (arXiv 2103.14030, equation 4).
    """
    row, column = _rows_and_columns(size, device)
    row_offset = row[:, None] - row + size - 1
    column_offset = column[:, None] - column + size - 1
    return (row_offset * (2 * size - 1) + column_offset).flatten()


NOT_WRAPPED = (False, False)
"""Of an image whose upper edge does not continue its lower one, nor its left edge its right one."""


def shifted_windows(
    batch: int,
    rows: int,
    columns: int,
    size: int,
    device: torch.device,
    wrapped: tuple[bool, bool] = NOT_WRAPPED,
) -> tuple[WindowGroup, ...]:
    """The grid of ``rows`` x ``columns`` windows of side ``size``, moved by half a window.

    After the cyclic shift of the paper only the last row and column of windows hold tokens that are
    not neighbours; only these have a mask, and none where the image is ``wrapped`` from top to
    bottom or from left to right. Groups: inside, bottom, right, corner; empty ones are left out.
    """
    shift = size // 2
    token = torch.arange(batch * rows * columns * size**2, device=device)
    by_image = {"b": batch, "nh": rows, "h": size, "w": size}
    image = rearrange(token, "(b nh nw h w) -> b (nh h) (nw w)", **by_image)
    shifted = image.roll((-shift, -shift), (1, 2))
    index = rearrange(shifted, "b (nh h) (nw w) -> b nh nw (h w)", h=size, w=size)
    # The last shift rows of a bottom window come from the top of the image, and the last shift
    # columns of a window at the right from its left.
    row, column = _rows_and_columns(size, device)
    from_top, from_left = row >= size - shift, column >= size - shift
    rows_apart = (from_top[:, None] != from_top) & (not wrapped[0])
    columns_apart = (from_left[:, None] != from_left) & (not wrapped[1])
    groups = (
        (index[:, :-1, :-1], None),
        (index[:, -1:, :-1], None if wrapped[0] else rows_apart * MASKED),
        (index[:, :-1, -1:], None if wrapped[1] else columns_apart * MASKED),
        (index[:, -1:, -1:], None if all(wrapped) else (rows_apart | columns_apart) * MASKED),
    )
    return tuple(WindowGroup(part.flatten(0, 2), mask) for part, mask in groups if part.numel())


def _rows_and_columns(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Row and column of every token of a window, (N,) each."""
    position = torch.arange(size, device=device)
    row, column = torch.meshgrid(position, position, indexing="ij")
    return row.flatten(), column.flatten()


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
