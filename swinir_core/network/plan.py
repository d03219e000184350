"""The window plan: all that the layers of one forward pass share, and the loops over its windows.

Since no window sees another, a layer runs over a bounded number of windows at a time, in place; a
convolution runs over a bounded number of rows and is added in place. Their temporaries stay in the
cache whatever the image size. That is where the speed comes from: on a CPU most of the time of
doing everything at once is spent on touching new memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from types import EllipsisType
from typing import TypeAlias, TypeVar

import torch
from einops import rearrange
from torch import Tensor, nn

from ..images.neighbours import continued
from ..reports import Report, to_nobody
from ..threads import share
from .windows import (
    NOT_WRAPPED,
    WindowGroup,
    permute,
    relative_position_index,
    shifted_windows,
)

Part = TypeVar("Part")

Rows: TypeAlias = tuple[int, int]
"""The first row of a strip, and the first below it."""

Area: TypeAlias = tuple[EllipsisType, slice, slice]
"""Index of the rows and columns that are wanted of what is computed for them."""

_CPU_TOKENS = 1024
_CPU_TOKENS_IN_TRAINING = 4096
_GPU_TOKENS = 2**16
_CPU_STRIP_ROWS = 16
_CPU_STRIP_PIXELS = 2**12
_GPU_STRIP_ROWS = 32
_GPU_STRIP_PIXELS = 2**17

_FIRST_STRIP_PIXELS = 2**17
"""Of a strip of the first convolution, whose temporaries are small. Of fewer pixels PyTorch would
compute it in another way, which differs in the last bits from that of the whole image."""

Layer: TypeAlias = Callable[[Tensor, "Tensor | None"], Tensor]
"""(windows, N, C) tokens and the mask of their logits to (windows, N, C)."""


def tokens_at_once(device: torch.device, keeps_graph: bool = False) -> int:
    """Feature pixels that a Swin layer runs over at a time, on a CPU in one of its threads.

    Few enough for the temporaries to fit the cache of a CPU, enough to keep a GPU busy. With
    gradients more, and by all threads together, because fewer of the steps are bound by memory and
    each costs time to begin.
    """
    if device.type == "cpu":
        if keeps_graph:
            return _CPU_TOKENS_IN_TRAINING * torch.get_num_threads()
        return _CPU_TOKENS
    return _GPU_TOKENS


def threads_of(device: torch.device) -> int:
    """Parts of the work that are worked on at the same time."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def strip_rows(width: int, window: int, device: torch.device) -> int:
    """Rows of ``width`` feature pixels that a convolution runs over at a time, in whole windows."""
    rows, pixels = _GPU_STRIP_ROWS, _GPU_STRIP_PIXELS
    if device.type == "cpu":
        rows, pixels = _CPU_STRIP_ROWS, _CPU_STRIP_PIXELS
    return -(-max(rows, pixels // width) // window) * window


@dataclass
class Sweeps:
    """Count of the work of a pass, in sweeps over its features: what a layer does to all of them,
    a slice or a strip at a time."""

    report: Report = to_nobody
    total: float = 1
    done: float = 0

    def advance(self, part: float = 0) -> None:
        """Count ``part`` of a sweep, and report."""
        self.done += part
        self.report(min(self.done / self.total, 1))


@dataclass(frozen=True)
class WindowPlan:
    """All that depends on the size of the features only, made once and handed to every layer."""

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

    shifted: tuple[WindowGroup, ...]
    """The shifted grid."""

    windows_at_once: int
    """Windows that a layer runs over at a time."""

    strip_rows: int
    """Rows of features that a convolution runs over at a time; whole windows."""

    wrapped: tuple[bool, bool]
    """Whether the image continues from its bottom to its top, and from its right to its left."""

    workspace: Tensor | None
    """(windows, N, C) that the layers of an RSTB overwrite; ``None`` where gradients are wanted,
    so that nothing may be overwritten."""

    sweeps: Sweeps = field(default_factory=Sweeps)
    """Progress of the pass. Advanced by all that goes over the features, unless gradients are
    wanted."""

    @classmethod
    def build(
        cls,
        features: Tensor,
        size: int,
        keeps_graph: bool,
        wrapped: tuple[bool, bool] = NOT_WRAPPED,
    ) -> WindowPlan:
        """Plan for ``features`` (B, C, H, W), whose sides are multiples of ``size``; what they hold
        plays no part."""
        batch, channels, height, width = features.shape
        device, rows, columns = features.device, height // size, width // size
        workspace = None
        if not keeps_graph:
            shape = (batch * rows * columns, size**2, channels)
            workspace = torch.empty(shape, dtype=_residual_dtype(features.dtype), device=device)
        return cls(
            size=size,
            batch=batch,
            rows=rows,
            columns=columns,
            dtype=features.dtype,
            bias_index=relative_position_index(size, device),
            shifted=shifted_windows(batch, rows, columns, size, device, wrapped),
            windows_at_once=max(tokens_at_once(device, keeps_graph) // size**2, 1),
            strip_rows=strip_rows(batch * width, size, device),
            wrapped=wrapped,
            workspace=workspace,
        )

    def suits(
        self, features: Tensor, size: int, keeps_graph: bool, wrapped: tuple[bool, bool]
    ) -> bool:
        """Tell whether ``build`` would make an equal plan of these arguments."""
        batch, channels, height, width = features.shape
        return (
            (self.size, self.batch, self.height, self.width) == (size, batch, height, width)
            and (self.dtype, self.bias_index.device) == (features.dtype, features.device)
            and (self.keeps_graph, self.wrapped) == (keeps_graph, wrapped)
            and (self.workspace is None or self.workspace.shape[2] == channels)
            and self.bias_index.is_inference() == torch.is_inference_mode_enabled()
        )

    @property
    def keeps_graph(self) -> bool:
        """True where gradients are wanted, so that nothing may be overwritten."""
        return self.workspace is None

    @property
    def height(self) -> int:
        """Rows of features."""
        return self.rows * self.size

    @property
    def width(self) -> int:
        """Columns of features."""
        return self.columns * self.size

    @property
    def conv_dtype(self) -> torch.dtype:
        """Type of the convolutions that read the residual stream, which float16 does not hold."""
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
        return features.permute(0, 3, 1, 2)

    def new_windows(self, channels: int, like: Tensor) -> Tensor:
        """(windows, N, channels) of the residual stream, not yet written, where ``like`` is."""
        shape = (self.batch * self.rows * self.columns, self.size**2, channels)
        return like.new_empty(shape, dtype=_residual_dtype(self.dtype))

    def working_copy(self, x: Tensor) -> Tensor:
        """(windows, N, C) that may be overwritten; ``x`` itself where gradients are wanted."""
        return x if self.workspace is None else self.map(lambda part: part, x, self.workspace)

    def map(
        self, layer: Callable[[Tensor], Tensor], x: Tensor, out: Tensor | None = None
    ) -> Tensor:
        """``layer`` of all windows of ``x`` (windows, N, C), as many at a time as ``run`` takes,
        into ``out`` or what is made for it; all at once where gradients are wanted."""
        if self.keeps_graph:
            return layer(x)
        out = torch.empty_like(x) if out is None else out
        at_once = self.windows_at_once
        self.share(
            lambda part: part[1].copy_(layer(part[0])),
            zip(x.split(at_once), out.split(at_once), strict=True),
            lambda part: len(part[0]) / len(x),
        )
        return out

    def share(
        self,
        work: Callable[[Part], object],
        parts: Iterable[Part],
        sweeps: Callable[[Part], float],
    ) -> None:
        """Do ``work`` on every part, on a CPU by a thread each, and count the ``sweeps`` done."""

        def done(part: Part) -> None:
            self.sweeps.advance(sweeps(part))

        if self.bias_index.device.type == "cpu":
            return share(work, parts, done)
        for part in parts:
            work(part)
            done(part)

    def convolve(self, conv: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """``conv``, of three rows and columns, of an image (B, C, H, W) that it turns into
        features: (windows, N, channels)."""
        unit = x.shape[2] // self.height
        if self.keeps_graph:
            rows, columns = (slice(side, -side or None) for side in map(int, self.wrapped))
            return self.to_windows(conv(self.around(x, unit))[..., rows, columns])
        windows, x = None, self.around(x, unit)
        above = int(self.wrapped[0])  # Rows of features in ``x`` before the first.
        rows = -(-_FIRST_STRIP_PIXELS // (self.batch * self.width * self.size)) * self.size
        # What is left of the rows goes into the last strip, or that would be one of few pixels.
        tops = range(0, max(self.height - rows, 0) + 1, rows)
        for top, bottom in pairwise((*tops, self.height)):
            first, last = max(top - 1 + above, 0), bottom + 1 + above
            features = conv(x[:, :, first * unit : last * unit])[:, :, top + above - first :]
            if self.wrapped[1]:
                features = features[..., 1:-1]
            if windows is None:
                windows = self.new_windows(features.shape[1], features)
            self.grid(windows)[:, top // self.size : bottom // self.size] = rearrange(
                features[:, :, : bottom - top],
                "b c (nh h) (nw w) -> b nh nw h w c",
                h=self.size,
                w=self.size,
            )
            self.sweeps.advance((bottom - top) / self.height)
        assert windows is not None
        return windows

    def grid(self, windows: Tensor) -> Tensor:
        """View (windows, N, C) as (B, rows, columns, size, size, C)."""
        return windows.view(self.batch, self.rows, self.columns, self.size, self.size, -1)

    def add(self, x: Tensor, branch: Tensor) -> Tensor:
        """``x + branch``, over ``x`` where no gradients are wanted."""
        return x + branch if self.keeps_graph else x.add_(branch)

    def run(self, layer: Layer, x: Tensor, shifted: bool) -> Tensor:
        """Run ``layer`` over all windows of ``x`` (windows, N, C), of the shifted grid or not.

        With gradients all windows at once; else as many at a time as keep the temporaries small,
        and in place.
        """
        if self.keeps_graph:
            return self._run_at_once(layer, x, shifted)
        if not shifted:
            return self.map(lambda part: layer(part, None), x, x)
        tokens = x.view(-1, x.shape[-1])

        def run_group(part: WindowGroup) -> None:
            index = part.index.flatten()
            windows = tokens.index_select(0, index).view(*part.index.shape, -1)
            # Not index_copy_, which Apple's GPUs do not have in torch 2.6.
            tokens[index] = layer(windows, part.mask).flatten(0, 1)

        self.share(
            run_group,
            (part for group in self.shifted for part in group.split(self.windows_at_once)),
            lambda part: len(part.index) / len(x),
        )
        return x

    def _run_at_once(self, layer: Layer, x: Tensor, shifted: bool) -> Tensor:
        if not shifted:
            return layer(x, None)
        order, inverse = self.order
        windows = permute(x.flatten(0, 1), order, inverse).view_as(x)
        return permute(layer(windows, self._masks).flatten(0, 1), inverse, order).view_as(x)

    @cached_property
    def order(self) -> tuple[Tensor, Tensor]:
        """Tokens of all shifted windows, group by group, and the inverse of this order."""
        order = torch.cat([group.index for group in self.shifted]).flatten()
        return order, order.argsort()

    @cached_property
    def _masks(self) -> Tensor:
        """(windows, 1, N, N) masks of all shifted windows, group by group."""
        masks = []
        for group in self.shifted:
            count, tokens = group.index.shape
            mask = group.index.new_zeros(1) if group.mask is None else group.mask
            masks.append(mask.float().expand(count, 1, tokens, tokens))
        return torch.cat(masks)

    def images(self, shifted: bool) -> Tensor:
        """(windows,) int64: the image of each window, in the order in which ``run`` with gradients
        gives them to a layer."""
        windows = torch.arange(self.batch * self.rows * self.columns, device=self.bias_index.device)
        if shifted:
            windows = self.order[0][:: self.size**2] // self.size**2
        return windows // (self.rows * self.columns)

    def add_convolved(self, x: Tensor, conv: nn.Module, y: Tensor, margin: int) -> Tensor:
        """``x + conv(y)``, both (windows, N, C); over ``x`` where no gradients are wanted.

        A pixel of ``conv(y)`` depends on ``margin`` pixels around it.
        """
        if self.keeps_graph:
            kept, features = self.all_features(y, margin, self.conv_dtype)
            return x + self.to_windows(conv(features)[kept])
        grid = self.grid(x)

        def add_strip(rows: tuple[int, int]) -> None:
            kept, strip = self.strip(y, rows, margin, self.conv_dtype)
            added = conv(strip)[kept]
            grid[:, rows[0] // self.size : rows[1] // self.size].add_(
                rearrange(added, "b c (nh h) (nw w) -> b nh nw h w c", h=self.size, w=self.size)
            )

        self.share(add_strip, self.strips(), lambda rows: (rows[1] - rows[0]) / self.height)
        return x

    def strips(self) -> Iterator[Rows]:
        """List the rows of strips that together cover the features."""
        return pairwise((*range(0, self.height, self.strip_rows), self.height))

    def parts(self, image: Tensor) -> Iterator[Tensor]:
        """Views of the rows of an image (B, C, H, W), a strip of features each, to be changed in
        place; the whole image where gradients are wanted."""
        rows = image.shape[2] // self.height * self.strip_rows
        for part in (image,) if self.keeps_graph else image.split(rows, 2):
            yield part
            self.sweeps.advance()

    def strip(
        self,
        windows: Tensor,
        rows: Rows,
        margin: int,
        dtype: torch.dtype,
    ) -> tuple[Area, Tensor]:
        """Take a strip and ``margin`` rows around it, as far as there are any; of a wrapped image
        always, and as many columns.

        Returns where the strip lies in what is taken, and that, (B, C, h, w) stored channels last.
        """
        top, bottom = rows
        first, last = top - margin, bottom + margin
        if not self.wrapped[0]:
            first, last = max(first, 0), min(last, self.height)
        left = margin * self.wrapped[1]
        grid = self.grid(windows)
        shape = (self.batch, last - first, self.width + 2 * left, windows.shape[-1])
        strip = windows.new_empty(shape, dtype=dtype)
        columns = strip[:, :, left : left + self.width]
        by_windows = columns.unflatten(2, (self.columns, self.size))
        for row in range(first // self.size, -(-last // self.size)):
            start, stop = max(first, row * self.size), min(last, (row + 1) * self.size)
            inside = slice(start - row * self.size, stop - row * self.size)
            its_rows = grid[:, row % self.rows, :, inside].movedim(2, 1)
            by_windows[:, start - first : stop - first] = its_rows
        for beyond in range(left):
            strip[:, :, left - 1 - beyond] = columns[:, :, (-1 - beyond) % self.width]
            strip[:, :, left + self.width + beyond] = columns[:, :, beyond % self.width]
        kept = ..., slice(top - first, bottom - first), slice(left, left + self.width)
        return kept, strip.movedim(-1, 1)

    def all_features(self, windows: Tensor, margin: int, dtype: torch.dtype) -> tuple[Area, Tensor]:
        """Take all features as ``strip`` takes those of a few rows, with their graph."""
        above, left = (margin * wrapped for wrapped in self.wrapped)
        kept = ..., slice(above, above + self.height), slice(left, left + self.width)
        return kept, self.around(self.to_features(windows.to(dtype)), margin)

    def around(self, image: Tensor, margin: int) -> Tensor:
        """Continue an image (B, C, H, W) by ``margin`` pixels beyond the edges that are wrapped."""
        for dim, wrapped in zip((2, 3), self.wrapped, strict=True):
            if wrapped:
                image = continued(image, margin, dim)
        return image


def _residual_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type of the residual stream, whose values grow from block to block beyond what half holds."""
    return torch.promote_types(dtype, torch.float32)


def enlarged(area: Area, factor: int) -> Area:
    """The area in an image that is ``factor`` times as large."""
    rows, columns = (slice(side.start * factor, side.stop * factor) for side in area[1:])
    return ..., rows, columns


def cut(kept: Area, x: Tensor, margin: int) -> tuple[Area, Tensor]:
    """Leave ``margin`` pixels of (B, C, H, W) around what is kept, where there are more."""
    _, rows, columns = kept
    above, left = (max(side.start - margin, 0) for side in (rows, columns))
    x = x[..., above : rows.stop + margin, left : columns.stop + margin]
    return (..., shifted(rows, -above), shifted(columns, -left)), x


def shifted(side: slice, by: int) -> slice:
    """The slice, moved by a number of pixels."""
    return slice(side.start + by, side.stop + by)


class _Kept(threading.local):
    """The last plan of this thread, while ``reusing_plans`` is active.

    Every thread has its own, because work on a GPU may still go on when a pass returns.
    """

    plan: WindowPlan | None = None
    users = 0


_kept = _Kept()


@contextmanager
def reusing_plans() -> Iterator[None]:
    """Let images of one size that are run one after another share a plan and its workspace.

    Nothing is kept afterwards.
    """
    _kept.users += 1
    try:
        yield
    finally:
        _kept.users -= 1
        if not _kept.users:
            _kept.plan = None


def take_plan(
    features: Tensor, size: int, keeps_graph: bool, wrapped: tuple[bool, bool], sweeps: Sweeps
) -> WindowPlan:
    """The kept plan where it suits ``features`` (B, C, H, W), else a new one, to count ``sweeps``.

    It is no longer kept while it is used, so that a pass that fails, perhaps for want of memory,
    leaves none behind.
    """
    plan, _kept.plan = _kept.plan, None
    if plan is not None and plan.suits(features, size, keeps_graph, wrapped):
        return replace(plan, sweeps=sweeps)
    del plan  # Frees its workspace before the next one is made.
    return replace(WindowPlan.build(features, size, keeps_graph, wrapped), sweeps=sweeps)


def keep_plan(plan: WindowPlan) -> None:
    """Keep the plan of a pass that did not fail for the next one."""
    if _kept.users:
        _kept.plan = replace(plan, sweeps=Sweeps())
