"""A run of a model over tiles: together, one by one, or smaller where memory runs out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count, groupby, islice

import torch
from torch import Tensor

from ..devices import is_out_of_memory, release_cached_memory
from ..errors import Cancelled, PrecisionError
from ..images.color import rgb_to_gray
from ..images.neighbours import continued
from .image_model import ImageModel
from .planning import RunPlan
from .tiles import Tile, plan_fitting

Progress = Callable[[int, int], None]
"""Called with (pixels done, pixels in all): input pixels, overlaps included. The first never falls:
where memory runs out it stands still until as much is done again. The second grows when tiles have
to be cut smaller."""


_VALUES_AT_ONCE = 2**22
"""Values that are added to a result between two chances to stop."""


@dataclass(frozen=True)
class Job:
    """One tile to run, and where its result belongs."""

    tile: Tile
    image: Tensor
    """(H, W, C)"""

    result: Tensor
    """(sH, sW, C) on the CPU, zero where no tile is done yet; or of more channels than the image,
    which are equal."""

    share: float = 1
    """Of the restoration of the image's tile that is this job."""


def make_jobs(image: Tensor, result: Tensor, tiles: Iterable[Tile], in_channels: int) -> list[Job]:
    """List the jobs by which a model of ``in_channels`` restores ``image`` (H, W, C) into
    ``result`` (sH, sW, C): its tiles in order, by a gray model once for each channel, or for all
    of them where they are equal."""
    parts = [(image, result)]
    if in_channels == 1 and is_gray(image):
        parts = [(image[..., :1], result)]
    elif in_channels == 1:
        parts = list(zip(image.split(1, -1), result.split(1, -1), strict=True))
    return [Job(tile, *part, 1 / len(parts)) for part in parts for tile in tiles]


def is_gray(image: Tensor) -> bool:
    """Tell whether all channels of (..., C) are equal."""
    return all(channel.equal(image[..., 0]) for channel in image.unbind(-1))


@dataclass
class Run:
    """One run of a ``Restorer``: its jobs, how far it is, and how much fits the memory."""

    model: ImageModel
    device: torch.device
    """Of the inputs of the model."""

    dtype: torch.dtype
    """Of the inputs of the model."""

    plan: RunPlan
    overlap: Callable[[], int]
    """Returns the input pixels that tiles share; called when the first has to be cut smaller."""

    progress: Progress | None = None
    cancelled: Callable[[], bool] | None = None

    total: float = field(init=False)
    """Input pixels to compute, overlaps included."""

    most_pixels: float = field(init=False)
    """Input pixels that are run at once at most: of several tiles, or of one."""

    done: float = 0
    """Input pixels computed. A pixel whose channels are run one by one counts in fractions."""

    reported: float = 0
    """Input pixels that ``progress`` was last called with."""

    tried: list[str] = field(default_factory=list)
    """Numbers and sizes of tiles for which memory ran out."""

    def __post_init__(self) -> None:
        self.total = self.plan.pixels
        self.most_pixels = self.plan.at_once * math.prod(self.plan.tiles.largest)

    def do(self, jobs: Iterable[Job]) -> Iterator[Job]:
        """Restore every tile into its result, in order, and yield each job when it is done.

        Neighbours of equal size are run together.

        Raises:
            Cancelled: The callback wants it. What the callbacks raise passes through.
            MemoryError: Not even the smallest tile fits the memory.
            PrecisionError: float16 does not hold the numbers.
        """
        # Taken only as they are needed, because images are prepared for it one after another.
        jobs, waiting = iter(jobs), deque[Job]()
        with self.model.reusing_plans():
            while True:
                waiting.extend(islice(jobs, self.plan.at_once - len(waiting)))
                if not waiting:
                    break
                height, width = waiting[0].tile.size
                fitting = math.floor(self.most_pixels / (height * width))
                at_once = max(min(fitting, self.plan.at_once), 1)
                _, equal = next(groupby(waiting, key=lambda job: job.tile.size))
                batch = list(islice(equal, at_once))
                if self._restore(batch):
                    for job in batch:
                        waiting.popleft()
                        yield job

    def _restore(self, jobs: list[Job]) -> bool:
        """Restore tiles of equal size, one alone in smaller tiles where memory runs out for it.

        Returns ``False`` where memory ran out for several, which must be run fewer at once.
        """
        pixels = torch.stack([job.tile.seen_in(job.image, self.plan.wrapped) for job in jobs])
        share = sum(job.share for job in jobs) / len(jobs)
        restored = self._run_if_it_fits(pixels, share)
        if restored is None:
            if len(jobs) > 1:
                return False
            restored = self._restore_in_smaller_tiles(pixels[0], share)[None]
        for job, own in zip(jobs, restored, strict=True):
            inner = job.tile.within(job.image)
            own = job.tile.part(inner, own)
            rows = max(_VALUES_AT_ONCE // own[0].numel(), 1)
            for first, band in zip(count(0, rows), own.split(rows), strict=False):
                self.check()
                band = band.float().clamp_(0, 1)
                if band.shape[-1] > job.image.shape[-1]:
                    band = rgb_to_gray(band)[..., None]
                inner.add(band, job.result, self.model.scale, first)
        return True

    def _run_if_it_fits(self, pixels: Tensor, share: float) -> Tensor | None:
        """(n, h, w, C) to (n, sh, sw, channels of the model), or ``None`` where memory runs out or
        did so for less."""
        number, height, width, _ = pixels.shape
        if number * height * width > self.most_pixels:
            return None
        try:
            return self._run_together(pixels, share)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Beyond the except block, whose traceback keeps the tensors of the failed run alive.
        release_cached_memory(self.device)
        self.tried.append(f"{f'{number} times ' * (number > 1)}{width}x{height}")
        self.most_pixels = number * height * width / 2
        return None

    def _restore_in_smaller_tiles(self, pixels: Tensor, share: float) -> Tensor:
        """Cut a tile for which memory ran out, now or before: (h, w, C) to (sh, sw, C) on the
        CPU."""
        height, width, channels = pixels.shape
        scale = self.model.scale
        if self._wraps(height, width):
            return self._restore_cut_open(pixels, share)
        plan = plan_fitting(
            *(height, width, scale, self.model.alignment, self.overlap()),
            fits=lambda *tile: math.prod(tile) <= self.most_pixels,
        )
        if len(plan) == 1:
            raise MemoryError(
                f"out of memory even for {width}x{height} pixels, tried after "
                f"{', '.join(self.tried)}; "
                f"close other programs, or use a smaller model or lower precision"
            )
        # There are no smaller ones, so these are tried even where they are more than half.
        self.most_pixels = max(self.most_pixels, math.prod(plan.largest))
        self.total += (plan.pixels - height * width) * share
        out = torch.zeros(height * scale, width * scale, channels)
        for _ in self.do([Job(tile, pixels, out, share) for tile in plan.tiles_by_size()]):
            pass
        return out

    def _wraps(self, height: int, width: int) -> bool:
        """Tell whether the model takes pixels of this size as wrapped: those of a whole image."""
        return self.plan.model_wraps and (height, width) == self.plan.tiles.image_size

    def _restore_cut_open(self, pixels: Tensor, share: float) -> Tensor:
        """Restore a wrapped image in smaller tiles, with margins: (h, w, C) to (sh, sw, C)."""
        alignment, scale = self.model.alignment, self.model.scale
        margin = max(-(-self.overlap() // alignment), 1) * alignment
        kept, area = [], pixels[..., 0].numel()
        for side, wrapped in enumerate(self.plan.wrapped):
            length, beyond = pixels.shape[side], margin * wrapped
            pixels = continued(pixels, beyond, side)
            kept.append(slice(beyond * scale, (beyond + length) * scale))
        self.total += (pixels[..., 0].numel() - area) * share  # The margins were not planned.
        return self._restore_in_smaller_tiles(pixels, share)[tuple(kept)]

    def _run_together(self, pixels: Tensor, share: float) -> Tensor:
        """(n, h, w, C) to (n, sh, sw, channels of the model) on the device, in one call."""
        x = pixels.movedim(-1, 1).to(self.device, self.dtype)
        y = self._call(x.expand(-1, self.model.in_channels, -1, -1), share)
        if self.dtype == torch.float16 and not y.isfinite().all():
            raise PrecisionError("these weights overflow float16; use bfloat16 or float32")
        return y.movedim(1, -1)

    def _call(self, x: Tensor, share: float) -> Tensor:
        """Call the model on (n, C, h, w), counting what it reports."""
        self.check()
        before, area = self.done, x[:, 0].numel() * share

        def report(part: float) -> None:
            self._reach(before + area * part)
            self.check()

        try:
            wraps = self._wraps(*x.shape[-2:])
            call = self.model.wrapping(self.plan.wrapped) if wraps else self.model
            assert call is not None  # Or the plan would have margins.
            y = call(x, report)
            self._reach(before + area)
            return y
        except BaseException:
            self.done = before
            raise

    def check(self, _: float = 0) -> None:
        """Raise ``Cancelled`` where the callback wants it.

        The ``Report`` of what is computed beside the model.
        """
        if self.cancelled is not None and self.cancelled():
            raise Cancelled(f"stopped after {self.done:.0f} of {self.total:.0f} pixels")

    def _reach(self, done: float) -> None:
        self.done = done
        if self.progress is not None and self.done > self.reported:
            self.reported = self.done
            self.progress(round(self.done), round(self.total))
