"""The window plan: all that the layers of one forward pass share, and the loops over its windows.

Since no window sees another, a layer runs over a bounded number of windows at a time, in place; a
convolution runs over a bounded number of rows and is added in place. Their temporaries stay in the
cache whatever the image size. That is where the speed comes from: on a CPU most of the time of
doing everything at once is spent on touching new memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

import torch
from einops import rearrange
from torch import Tensor, nn

from ..images.neighbours import continued
from ..reports import Report, to_nobody
from .windows import (
    NOT_WRAPPED,
    WindowGroup,
    permute,
    relative_position_index,
    shifted_windows,
)

CONV_MARGIN = 2
"""Rows of features beyond a strip that the convolutions of a residual connection see: two of 3x3
at most."""

_CPU_TOKENS_A_THREAD = 1024
_CPU_TOKENS_A_THREAD_IN_TRAINING = 4096
_GPU_TOKENS = 2**16
_STRIP_ROWS = 32
_CPU_STRIP_PIXELS = 2**12
_GPU_STRIP_PIXELS = 2**17

_FIRST_STRIP_PIXELS = 2**17
"""Of a strip of the first convolution, whose temporaries are small. Of fewer pixels PyTorch would
compute it in another way, which differs in the last bits from that of the whole image."""

Layer: TypeAlias = Callable[[Tensor, "Tensor | None"], Tensor]
"""(windows, N, C) tokens and the mask of their logits to (windows, N, C)."""


def tokens_at_once(device: torch.device, keeps_graph: bool = False) -> int:
    """Feature pixels that a Swin layer runs over at a time.

    Few enough for the temporaries to fit the cache of a CPU, enough to keep a GPU busy. With
    gradients more, because fewer of the steps are bound by memory and each costs time to begin.
    """
    if device.type == "cpu":
        a_thread = _CPU_TOKENS_A_THREAD_IN_TRAINING if keeps_graph else _CPU_TOKENS_A_THREAD
        return a_thread * torch.get_num_threads()
    return _GPU_TOKENS


def strip_rows(width: int, window: int, device: torch.device) -> int:
    """Rows of ``width`` feature pixels that a convolution runs over at a time, in whole windows."""
    pixels = _CPU_STRIP_PIXELS if device.type == "cpu" else _GPU_STRIP_PIXELS
    return -(-max(_STRIP_ROWS, pixels // width) // window) * window


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
        for part, its_out in zip(x.split(at_once), out.split(at_once), strict=True):
            its_out.copy_(layer(part))
            self.sweeps.advance(len(part) / len(x))
        return out

    def convolve(self, conv: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """``conv``, of three rows and columns, of an image (B, C, H, W) that it turns into
        features: (windows, N, channels)."""
        unit = x.shape[2] // self.height
        if self.keeps_graph:
            return self.to_windows(self.inside(conv(self.around(x, unit)), 1))
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
            for part in x.split(self.windows_at_once):
                part.copy_(layer(part, None))
                self.sweeps.advance(len(part) / len(x))
            return x
        tokens = x.view(-1, x.shape[-1])
        for group in self.shifted:
            for index in group.index.split(self.windows_at_once):
                part = tokens.index_select(0, index.flatten()).view(*index.shape, -1)
                # Not index_copy_, which Apple's GPUs do not have in torch 2.6.
                tokens[index.flatten()] = layer(part, group.mask).flatten(0, 1)
                self.sweeps.advance(len(index) / len(x))
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

    def add_convolved(self, x: Tensor, conv: nn.Module, y: Tensor) -> Tensor:
        """``x + conv(y)``, both (windows, N, C); over ``x`` where no gradients are wanted."""
        if self.keeps_graph:
            features = self.around(self.to_features(y.to(self.conv_dtype)), CONV_MARGIN)
            return x + self.to_windows(self.inside(conv(features), CONV_MARGIN))
        grid = self.grid(x)
        for top, bottom in self.strips():
            kept, strip = self.strip(y, top, bottom, CONV_MARGIN, self.conv_dtype)
            added = conv(strip)[kept]
            grid[:, top // self.size : bottom // self.size].add_(
                rearrange(added, "b c (nh h) (nw w) -> b nh nw h w c", h=self.size, w=self.size)
            )
            self.sweeps.advance((bottom - top) / self.height)
        return x

    def strips(self) -> Iterator[tuple[int, int]]:
        """(top, bottom) rows of strips that together cover the features."""
        for top in range(0, self.height, self.strip_rows):
            yield top, min(top + self.strip_rows, self.height)

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
        top: int,
        bottom: int,
        margin: int,
        dtype: torch.dtype,
        scale: int = 1,
    ) -> tuple[tuple[slice, ...], Tensor]:
        """Rows of a strip and ``margin`` rows around it, as far as there are any; of a wrapped
        image always, and as many columns.

        Returns where of what is made of these, (B, C, scale * h, scale * w), that of the strip
        lies, and them (B, C, h, w) stored channels last.
        """
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
            rows = grid[:, row % self.rows, :, inside].movedim(2, 1)
            by_windows[:, start - first : stop - first] = rows
        for beyond in range(left):
            strip[:, :, left - 1 - beyond] = columns[:, :, (-1 - beyond) % self.width]
            strip[:, :, left + self.width + beyond] = columns[:, :, beyond % self.width]
        kept = (
            slice((top - first) * scale, (bottom - first) * scale),
            slice(left * scale, (left + self.width) * scale),
        )
        return (slice(None), slice(None), *kept), strip.movedim(-1, 1)

    def around(self, image: Tensor, margin: int) -> Tensor:
        """Continue an image (B, C, H, W) by ``margin`` pixels beyond the edges that are wrapped."""
        for dim, wrapped in zip((2, 3), self.wrapped, strict=True):
            if wrapped:
                image = continued(image, margin, dim)
        return image

    def inside(self, image: Tensor, margin: int) -> Tensor:
        """Cut from (B, C, H, W) what ``around`` has added."""
        rows, columns = (
            slice(margin * wrapped, -margin * wrapped or None) for wrapped in self.wrapped
        )
        return image[:, :, rows, columns]


def _residual_dtype(dtype: torch.dtype) -> torch.dtype:
    """Type of the residual stream, whose values grow from block to block beyond what half holds."""
    return torch.promote_types(dtype, torch.float32)


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
