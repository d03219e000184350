"""How features are laid out while Swin layers run, and the loop over windows.

Between two convolutions the features are kept as windows: (windows, N, C), N tokens a window, the
windows of the unshifted grid one after another. A layer with regular windows then works on plain
slices; a shifted layer gathers the tokens of its windows by index and puts them back, so nothing
is rolled or partitioned anew. Since no window sees another, a layer runs over a bounded number of
windows at a time, in place, and its temporaries stay in the cache whatever the image size. That is
where the speed comes from: on a CPU most of the time of doing everything at once is spent on
touching new memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from .memory import tokens_at_once

MASKED = -100.0
"""Added to the logits of token pairs that are not neighbours; models were trained with it."""


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

    rows: int
    """Windows from top to bottom."""

    dtype: torch.dtype
    """Type of the heavy arithmetic; the residual stream is never narrower than float32."""

    bias_index: Tensor
    """(N*N,) int64: the row of a relative position bias table for each token pair."""

    shifted: tuple[ShiftedWindows, ...]
    """The shifted grid. After the cyclic shift of the paper only its last row and column hold
    tokens that are not neighbours, and only these have a mask."""

    windows_at_once: int
    """How many windows a layer runs over at a time."""

    keeps_graph: bool
    """Whether gradients are wanted, so that nothing may be overwritten."""

    @classmethod
    def build(cls, features: Tensor, size: int, keeps_graph: bool) -> WindowPlan:
        """The plan for ``features`` (B, C, H, W), whose sides are multiples of ``size``."""
        batch, _, height, width = features.shape
        position = torch.arange(size, device=features.device)
        row, column = (grid.flatten() for grid in torch.meshgrid(position, position, indexing="ij"))
        row_offset = row[:, None] - row + size - 1
        column_offset = column[:, None] - column + size - 1
        return cls(
            size,
            height // size,
            features.dtype,
            (row_offset * (2 * size - 1) + column_offset).flatten(),
            _shifted_windows(batch, height, width, size, row, column),
            max(tokens_at_once(features.device) // size**2, 1),
            keeps_graph,
        )

    def to_windows(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to (windows, N, C)."""
        return rearrange(
            features, "b c (nh h) (nw w) -> (b nh nw) (h w) c", h=self.size, w=self.size
        )

    def to_features(self, windows: Tensor, batch: int) -> Tensor:
        """(windows, N, C) to (B, C, H, W), stored channels last."""
        features = rearrange(
            windows,
            "(b nh nw) (h w) c -> b (nh h) (nw w) c",
            b=batch,
            nh=self.rows,
            h=self.size,
        )
        return features.movedim(-1, 1)

    def run(
        self, layer: Callable[[Tensor, Tensor | None], Tensor], x: Tensor, shifted: bool
    ) -> Tensor:
        """``layer(windows, mask)`` for all windows of ``x`` (windows, N, C).

        Overwrites and returns ``x``, or where gradients are wanted returns a new tensor.
        """
        if shifted and self.size > 1:
            return self._run_shifted(layer, x)
        if self.keeps_graph:
            return layer(x, None)
        for part in x.split(self.windows_at_once):
            part.copy_(layer(part, None))
        return x

    def _run_shifted(self, layer: Callable[[Tensor, Tensor | None], Tensor], x: Tensor) -> Tensor:
        tokens = x.view(-1, x.shape[-1])
        if self.keeps_graph:
            parts = [layer(tokens[group.index], group.mask) for group in self.shifted]
            order = torch.cat([group.index.flatten() for group in self.shifted])
            return torch.cat(parts).flatten(0, 1)[order.argsort()].view_as(x)
        for index, mask in self._shifted_parts():
            part = tokens.index_select(0, index.flatten()).view(*index.shape, -1)
            tokens.index_copy_(0, index.flatten(), layer(part, mask).flatten(0, 1))
        return x

    def _shifted_parts(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        for group in self.shifted:
            for index in group.index.split(self.windows_at_once):
                yield index, group.mask


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
