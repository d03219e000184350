"""Results of the size that is wanted, whatever the scale of the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from ..choices import SIZE_VALUE, SIZES
from ..images.resize import Resizer
from .edges import WRAPPED
from .execution import Progress
from .inputs import Inputs, check_result, empty_result
from .masking import enlarged, stretched, touched
from .planning import RunPlan
from .restorer import Restorer
from .streaming import Rows, Stream
from .tiles import TileSettings


class _Stages:
    """Progress of runs that follow each other, whose pixels may become more or fewer than planned
    as they go: where memory runs out, or for the alpha and the mask of each image."""

    def __init__(self, progress: Progress | None, planned: int) -> None:
        self._report, self._later = progress or (lambda *_: None), planned
        self._before = self._reached = self._total = 0

    def begin(self, planned: int) -> None:
        """Begin the next run, which was ``planned`` to take so many of the pixels in all."""
        self._before, self._later = self._reached, max(self._later - planned, 0)

    def advance(self, done: int, total: int) -> None:
        """Report of the run that has begun: the ``Progress`` that it is given."""
        self._reached = max(self._before + done, self._reached)
        self._total = self._before + total + self._later
        self._report(self._reached, self._total)

    def end(self) -> None:
        """Report that all is done, where what was planned last was not needed."""
        if self._reached < self._total or not self._total:
            self._reached = self._total = max(self._reached, 1)
            self._report(self._reached, self._total)


_ROW_BYTES = 2**27
"""Memory that a row of tiles takes at most beside the model where its result is resized; more where
the resized result is larger than that."""


@dataclass(frozen=True)
class TargetSize:
    """The size that results have. A wrong value raises ``ValueError`` naming it."""

    way: str = "model"
    """One of ``SIZES``."""

    value: float = SIZE_VALUE
    """Factor, pixels or megapixels, above 0; without effect in the way ``model``."""

    multiple: int = 1
    """Of which both sides are multiples: 2 for codecs that take even sizes only; without effect in
    the way ``model``."""

    def __post_init__(self) -> None:
        if self.way not in SIZES:
            raise ValueError(f"size must be one of {', '.join(SIZES)}, got {self.way!r}.")
        if not (math.isfinite(self.value) and self.value > 0):
            raise ValueError(f"size: {self.way} must be a number above 0, got {self.value}.")

    def of(self, height: int, width: int, scale: int) -> tuple[int, int]:
        """Find height and width of the result of an image: each side rounded half up to a multiple
        of ``multiple``, at least that.

        Args:
            height, width: Of the image, in pixels.
            scale: Of the model.
        """
        value = Fraction(str(self.value))  # As it was written: 1.15 is no 1.149999999999999911.
        factor = {
            "model": Fraction(scale),
            "factor": value,
            "longer side": value / max(height, width),
            "megapixels": Fraction(math.sqrt(value * 10**6 / (height * width))),
        }[self.way]
        multiple = 1 if self.way == "model" else self.multiple
        height, width = (
            max(math.floor(side * factor / multiple + Fraction(1, 2)), 1) * multiple
            for side in (height, width)
        )
        return height, width

    def is_of_model(self, inputs: Inputs, scale: int) -> bool:
        """Tell whether results of a model of ``scale`` have this size as they are."""
        height, width = inputs.images.shape[1:3]
        return self.of(height, width, scale) == (height * scale, width * scale)


class Held:
    """A picture in memory that a ``Stream`` reads."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        """Height, width and channels; ``pixels`` may be set later."""

    pixels: np.ndarray
    """float32 (H, W, C) in 0..1."""

    @staticmethod
    def of(image: Tensor) -> Held:
        """Hold an image (H, W, C) of floats on any device."""
        height, width, channels = image.shape
        held = Held((height, width, channels))
        held.pixels = image.float().cpu().numpy()
        return held

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Read rows: float32 (stop - start, W, C)."""
        return self.pixels[start:stop]


class Sized:
    """One picture restored to a size, by bands.

    The model runs until the picture is at least as large, once at least; what is too large is
    shrunk, and what a model of scale 1 leaves too small is enlarged, both bicubically. The last run
    goes by rows of tiles that are resized as they are finished, so that of its result no more
    exists than of these. Mask and strength mix the result with the input that is resized likewise.
    """

    def __init__(
        self,
        restorer: Restorer,
        picture: Rows,
        size: TargetSize | None = None,
        tiles: TileSettings | None = None,
        mask: Tensor | None = None,
        allocate: Callable[[tuple[int, ...], type], np.ndarray] = np.empty,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """
        Args:
            restorer: Runs the model.
            picture: Read by rows.
            size: Of the result; by default larger by the model's scale.
            tiles: When and how the input of each run is cut.
            mask: (H, W) in 0..1: how much of the result is restored.
            allocate: Makes the array, of a shape and type, that holds the result of a run which is
                the input of the next.
            cancelled: Called while the runs are planned, as in a run.
        """
        self.restorer, self.picture, self.allocate = restorer, picture, allocate
        self.tiles = tiles or TileSettings()
        height, width, channels = picture.shape
        self.scale = restorer.model.scale
        self.target = (size or TargetSize()).of(height, width, self.scale)
        self.is_masked = mask is not None
        self.share = mask if self.is_masked or restorer.strength == 1 else torch.ones(1, 1)
        runs = 1
        while (
            restorer.strength
            and self.scale > 1
            and (
                height * self.scale**runs < self.target[0]
                or width * self.scale**runs < self.target[1]
            )
        ):
            runs += 1
        self.wrapped = WRAPPED[restorer.edges]
        self.is_resized = self.target != (height * self.scale, width * self.scale)
        row_bytes = math.inf
        if self.is_resized:
            row_bytes = max(_ROW_BYTES, 4 * math.prod(self.target) * channels)
        stream = partial(Stream, restorer, tiles=tiles, row_bytes=row_bytes, cancelled=cancelled)
        first = stream(picture, mask=self._touched(runs))
        self.streams = [first]
        for run in range(1, runs):
            side = self.scale**run
            held = Held((height * side, width * side, channels))
            self.streams.append(stream(held, alpha_varies=first.alpha_varies))

    @classmethod
    def of_first(
        cls,
        restorer: Restorer,
        inputs: Inputs,
        size: TargetSize,
        tiles: TileSettings,
        cancelled: Callable[[], bool] | None = None,
    ) -> Sized:
        """Prepare the first of several images, whose plan is that of all; a black one of none.

        Raises ``MemoryError`` where its result, which is to lie in memory, is larger than what is
        free: to plan the many runs that would lead there takes long.
        """
        _, height, width, channels = inputs.images.shape
        check_result(1, *size.of(height, width, restorer.model.scale), channels)
        image, *_ = (*inputs.images[:1], torch.zeros(inputs.images.shape[1:]))
        mask = None if inputs.mask is None else inputs.mask[0]
        return cls(restorer, Held.of(image), size, tiles, mask, cancelled=cancelled)

    @property
    def pixels(self) -> int:
        """Input pixels to compute in all runs, overlaps and alpha counted each time."""
        return sum(stream.plan.pixels for stream in self.streams)

    def memory(self, count: int = 1) -> int:
        """Estimate the peak growth on the device for ``count`` pictures of this size, in bytes,
        weights not included."""
        together = self.together(count)
        if together == 1:
            return max(stream.plan.memory for stream in self.streams)
        return max(self._plan(stream, together).memory for stream in self.streams)

    @property
    def is_cut(self) -> bool:
        """True where the input of a run is cut into tiles."""
        return any(len(stream.plan.tiles) > 1 for stream in self.streams)

    def together(self, count: int) -> int:
        """Find how many of ``count`` pictures of this size are run together: small ones, where it
        is faster."""
        if count == 1 or self.is_masked or self.restorer.strength == 0 or self.is_cut:
            return 1
        plan = self._plan(self.streams[0], count)
        result_bytes = 4 * math.prod(self.streams[-1].picture.shape) * self.scale**2
        return max(min(plan.at_once // plan.runs_of_an_image, _ROW_BYTES // result_bytes), 1)

    def _plan(self, stream: Stream, count: int) -> RunPlan:
        """Plan a run over ``count`` pictures that are not cut."""
        height, width, channels = stream.picture.shape
        return self.restorer.plan(height, width, self.tiles, count, channels=channels)

    def summary(self) -> str:
        """Describe the runs in a sentence for a person."""
        height, width = self.target
        text = "; then ".join(stream.plan.summary() for stream in self.streams)
        return text + f"; resized to {width}x{height}" * self.is_resized

    def bands(
        self, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None
    ) -> Iterator[np.ndarray]:
        """Restore the picture and yield what is finished of the result, from top to bottom.

        Callbacks and errors are those of a call of the ``Restorer``.

        Yields:
            float32 (h, w, C) in 0..1.
        """
        stages = _Stages(progress, self.pixels)
        *earlier, last = self.streams
        for stream, following in zip(earlier, self.streams[1:], strict=True):
            held = following.picture
            assert isinstance(held, Held)
            height, width, channels = held.shape
            check_result(1, height, width, channels)
            held.pixels, start = self.allocate(held.shape, np.float32), 0
            stages.begin(stream.plan.pixels)
            for band in stream.bands(stages.advance, cancelled):
                held.pixels[start : start + len(band)] = band
                start += len(band)
                del band
        stages.begin(last.plan.pixels)
        yield from self.finished(map(torch.from_numpy, last.bands(stages.advance, cancelled)))

    def finished(self, bands: Iterator[Tensor]) -> Iterator[np.ndarray]:
        """Make the result of that of the last run, (n, W, C), which arrives in bands from top to
        bottom and may be changed; yield as ``bands`` does."""
        if self.is_resized:
            last = self.streams[-1]
            source = (last.height * self.scale, last.width * self.scale)
            if self.wrapped[0]:  # The first rows need the last.
                bands = iter([torch.cat(list(bands))])
            bands = Resizer(source, self.target, self.wrapped).bands(bands)
        start = 0
        for band in bands:
            if self.share is not None:
                self._mix(band, start)
            start += len(band)
            yield band.numpy()
            del band  # Or it is held while the next is made.

    def _touched(self, runs: int) -> Tensor | None:
        """Find where the only run must restore something: (1, H, W), or ``None`` for everywhere.
        What is resized reaches as far as the kernel does."""
        height, width, _ = self.picture.shape
        if self.restorer.strength == 0:
            return torch.zeros(1, height, width)
        if self.share is None or self.share.shape != (height, width) or runs > 1:
            return None
        reach = math.ceil(2 * max(height / self.target[0], width / self.target[1], 1))
        return touched(self.share, self.wrapped, reach * self.is_resized)[None].float()

    def _mix(self, band: Tensor, start: int) -> None:
        """Mix rows of the result, (h, w, C), from ``start`` on, with the plain input, in place."""
        assert self.share is not None
        stop = start + len(band)
        share = self._shares[start:stop] * self.restorer.strength
        band.copy_(self._plain(start, stop).lerp_(band, share[..., None]))

    @cached_property
    def _shares(self) -> Tensor:
        """Share of the model in the result: (h, w), or of one row and column where it is the same
        everywhere, expanded."""
        assert self.share is not None
        if self.share.numel() == 1:
            return self.share.expand(self.target)
        if self.is_resized:
            return stretched(self.share, *self.target, self.wrapped)[0]
        return enlarged(self.share, self.scale, self.wrapped)

    def _plain(self, start: int, stop: int) -> Tensor:
        """Resize the input to rows of the result: (stop - start, w, C) float32 in 0..1."""
        if self.is_resized:
            return self._resizer.rows(self.streams[0].read_seen, start, stop)
        if self.scale == 1:
            return self.streams[0].read(start, stop).clamp(0, 1)
        first, last = start // self.scale, -(-stop // self.scale)
        rows = self.streams[0].enlarged(first, last, self.streams[0].read_seen)
        return rows[start - first * self.scale : stop - first * self.scale]

    @cached_property
    def _resizer(self) -> Resizer:
        return Resizer(self.picture.shape[:2], self.target, self.wrapped)


def restore_to_size(
    restorer: Restorer,
    inputs: Inputs,
    size: TargetSize,
    tiles: TileSettings | None = None,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    finished: Callable[[Tensor, Tensor, int, int], None] | None = None,
) -> Tensor:
    """Restore images to a size: one after another, small ones several together.

    Args:
        restorer: Runs the model.
        inputs: From ``check_inputs``.
        size: Of the results.
        tiles: When and how the input of each run is cut.
        progress, cancelled: As in a call of the ``Restorer``.
        finished: Called with (input, result, first row, last row + 1) for every band of a result
            (h, w, C) that is finished.

    Returns:
        (B, h, w, C) float32 in 0..1, on the CPU.

    Raises:
        MemoryError, PrecisionError, Cancelled: As in a call of the ``Restorer``.
    """
    images = inputs.images
    batch, height, width, channels = images.shape
    target = size.of(height, width, restorer.model.scale)
    check_result(batch, *target, channels)
    out = empty_result(batch, *target, channels)
    if not batch:
        return out
    masks = [None] * batch if inputs.mask is None else inputs.mask.expand(batch, -1, -1)
    first = Sized.of_first(restorer, inputs, size, tiles or TileSettings(), cancelled)
    at_once = first.together(batch)
    stages = _Stages(progress, batch * first.pixels)
    with restorer.model.reusing_plans():
        for begun in range(0, batch, at_once):
            group = slice(begun, begun + at_once)
            restored = None
            if at_once > 1:
                stages.begin(len(images[group]) * first.pixels)
                restored = iter(_run_together(first, images[group], stages.advance, cancelled))
            for image, result, mask in zip(images[group], out[group], masks[group], strict=True):
                held, start = Held.of(image), 0
                sized = Sized(restorer, held, size, tiles, mask, cancelled=cancelled)
                if restored is None:
                    stages.begin(first.pixels)
                    bands = sized.bands(stages.advance, cancelled)
                else:
                    bands = sized.finished(iter([next(restored)]))
                for band in bands:
                    stop = start + len(band)
                    result[start:stop] = torch.from_numpy(band)
                    if finished is not None:
                        finished(image, result, start, stop)
                    start = stop
    stages.end()
    return out


def _run_together(
    first: Sized, images: Tensor, progress: Progress, cancelled: Callable[[], bool] | None
) -> Tensor:
    """Run the model over images (n, H, W, C) as often as over the ``first`` of them; callbacks and
    errors are those of a call of the ``Restorer``. Returns the last result, (n, sH, sW, C)."""
    restorer = copy(first.restorer)
    restorer.strength = 1.0  # What is mixed is mixed at the end.
    stages = _Stages(progress, len(images) * first.pixels)
    for stream in first.streams:
        inputs = Inputs(images, None)
        plan = restorer.plan_for(inputs, first.tiles, cancelled)
        stages.begin(len(images) * stream.plan.pixels)
        images = restorer.run(inputs, plan, stages.advance, cancelled)
    return images
