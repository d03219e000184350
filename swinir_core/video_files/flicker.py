"""Flicker of restored frames, damped where nothing moves.

A network makes noise that is another in every frame into texture that is another in every frame.
Where two frames of the input differ by no more than their noise, each result is therefore mixed
with the one before it. Two tests in small windows find what moves: the energy of the difference is
above that of the noise, or neighbours change alike, which noise does not, so that even faint edges
are found. By no more than results differ where nothing moves is any pixel changed, so that what
both tests overlook leaves no ghost either.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SHARE = 0.7
"""Share of the result before, where nothing moves: flicker falls to (1 - 0.7) / sqrt(1 + 0.7), a
quarter."""

_WINDOW = 7
"""Input pixels along the side of a window. Moved edges, of which a window has but a few pixels, are
found in smaller ones; their noise is known better in larger ones."""

_STILL_QUANTILE = 0.2
"""Of the windows of a frame so many are taken to be still: their energy is that of the noise."""

_LEAST_NOISE = (2 / 255) ** 2
"""Mean square of what is taken for noise at least: frames of a video file change by a level or two
where most of a frame does not change at all."""

_STILL, _MOVING = 1.2, 1.5
"""Energy of a window over that of the noise up to which nothing moves, and from which on it does;
that of 147 numbers varies by a ninth."""

_ALIKE = 8
"""Divides what neighbours that change alike add to it: their mean, of the three channels only,
varies so much more."""


class Steadier:
    """Damps flicker from frame to frame; keeps one frame of the input and one result."""

    def __init__(self) -> None:
        self._seen: Tensor | None = None
        self._shown: Tensor | None = None

    def add(self, frame: Tensor, result: Tensor) -> Tensor:
        """Damp what has changed since the frame that was added last.

        Args:
            frame: (H, W, C) of the input, in 0..1.
            result: (h, w, C) that was made of it, in 0..1.

        Returns:
            (h, w, C) in 0..1; of the first frame, and where a scene begins, ``result`` as it is.
        """
        seen, shown = self._seen, self._shown
        if seen is not None and shown is not None:
            stillness = still(frame, seen)
            share = _resized(stillness, result.shape[:2])
            change = shown - result
            energy = (change.square().mean(-1, keepdim=True) * share).sum()
            limit = (energy / share.sum().clamp(min=1e-6)).sqrt().item()
            result = change.mul_(share).mul_(_SHARE).clamp_(-limit, limit).add_(result)
        self._seen, self._shown = frame, result
        return result


def still(frame: Tensor, before: Tensor) -> Tensor:
    """Tell where nothing moves from one frame to the next, two (H, W, C): (H, W) in 0..1."""
    change = (frame - before).movedim(-1, 0)
    energy = _in_windows(change.square().mean(0, keepdim=True))[0]
    # Windows overlap, so a few of them know as much.
    noise = energy[::3, ::3].quantile(_STILL_QUANTILE).clamp(min=_LEAST_NOISE)
    alike = _in_windows(change).square().mean(0) * _WINDOW**2
    ratio = torch.maximum(energy / noise, 1 + (alike / noise - 1) / _ALIKE)
    # What moves reaches a pixel farther than the window in which it is found.
    ratio = F.max_pool2d(ratio[None], 3, 1, 1)[0]
    return ((_MOVING - ratio) / (_MOVING - _STILL)).clamp(0, 1)


def _in_windows(values: Tensor) -> Tensor:
    """Average (C, H, W) over the window around every pixel, as far as it is inside."""
    return F.avg_pool2d(values, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)


def _resized(share: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize (H, W) to (h, w, 1)."""
    if share.shape == size:
        return share[..., None]
    return F.interpolate(share[None, None], list(size), mode="bilinear")[0, 0, ..., None]
