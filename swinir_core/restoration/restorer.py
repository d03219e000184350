"""Images in, restored images out: channels, tiles, batches, progress, cancelling, out of memory."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..devices import free_memory
from ..errors import ImageError
from ..images.resize import enlarge
from .ensemble import Ensemble
from .execution import Execution, Piece, cut
from .image_model import ImageModel
from .masking import limited, mix, spread
from .overlap import find_overlap
from .run import Forecast, Progress, Run
from .tiles import TilePlan, TileSettings, plan_fitting, plan_tiles, plan_whole

_log = logging.getLogger(__name__)

CPU_PIXELS_AT_ONCE = 2**13
"""Small pieces are run together up to so many input pixels. On a CPU frames of 16x16 are three
times as fast for it and those of 32x32 1.4 times; from 64x64 on nothing is gained."""

GPU_PIXELS_AT_ONCE = 2**18
"""The same where it takes more to keep the device busy; chosen, not measured."""


class Restorer:
    """Runs a model over images of any size.

    The model stays where it is: ``device`` and ``dtype`` are those of its inputs, by default the
    device of its first parameter and the narrowest type of all. ``ensemble`` asks for the paper's
    x8 self-ensemble, which takes eight times as long. All state of a run is local to the call; only
    how far tiles of this model have to overlap is found once and kept.

    The same images, settings and device give the same bytes, in every run and every process. What
    is run together, and by how many threads, decides on the last bits only: a frame of a batch is
    that frame alone to within 5e-6 in float32 on a CPU. In the mode ``auto`` it is the free memory
    that says where a large image is cut; ``memory_budget`` or another mode says it once for all.
    """

    def __init__(
        self,
        model: ImageModel,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        ensemble: bool = False,
    ) -> None:
        self.model = Ensemble(model) if ensemble else model
        self.device = torch.device(_first_parameter(model).device if device is None else device)
        self.dtype: torch.dtype = _narrowest_type(model) if dtype is None else dtype

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        tiles: TileSettings | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        finished: Callable[[Piece], None] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Restore (B, H, W, C) floats in 0..1 to (B, sH, sW, C) float32 in 0..1, on the CPU.

        C is 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha), and stays what it is.
        A colour model restores a gray image as three equal channels and the luma of its result is
        kept; a gray model restores the channels of a colour image one by one. Alpha is enlarged
        bicubically, not restored.

        ``mask`` (B or 1, H, W) in 0..1 says how much of the result is restored, the rest being the
        input enlarged bicubically; tiles the mask does not touch are not computed.

        ``progress`` is told and ``cancelled`` is asked many times within every tile; when the
        latter says yes, ``Cancelled`` is raised, and what either raises passes through.
        ``finished`` is given every piece that is done, as it is before the mask is applied.

        Pieces of equal size, be they tiles or small images, are run together as ``plan`` says.
        Where memory runs out they are first run fewer at a time and then cut into smaller tiles;
        what is finished is kept, and so is the size that fits for all that follows. Beside the
        result no more memory is taken for many images than for those run together.

        Pixels that are NaN or infinite are taken as black or white, in colours and alpha; the
        images are copied for it, and a warning is logged.

        Raises ``ImageError`` for images or a mask of another shape, ``MemoryError`` when not even
        the smallest tile fits, ``PrecisionError`` when float16 does not hold the numbers.
        """
        check_images(images)
        images = finite(images)
        mask = None if mask is None else checked_mask(mask, images)
        tiles = tiles or TileSettings()
        batch, height, width, channels = images.shape
        scale = self.model.scale
        out = torch.zeros(batch, height * scale, width * scale, channels)
        if channels in (2, 4):
            for image, result in zip(images, out, strict=True):
                result[..., -1:] = enlarge(image[..., -1:], scale)
            channels -= 1
        images, results = images[..., :channels], out[..., :channels]

        pieces, plan = self._cut(images, results, tiles, mask)
        share = 1 / self.runs_of_an_image(channels)
        run = Run(
            total=share * sum(math.prod(piece.tile.size) for piece in pieces),
            most_pixels=plan.at_once * math.prod(plan.largest),
            most_pieces=plan.at_once,
            share=share,
            progress=progress,
            cancelled=cancelled,
        )
        for piece in self.execution(run, tiles).fill(pieces):
            if finished is not None:
                finished(piece)
        if mask is not None:
            masks = mask.expand(batch, -1, -1)
            for image, result, own in zip(images, results, masks, strict=True):
                mix(image, result, own, scale)
        return out

    def runs_of_an_image(self, channels: int) -> int:
        """Model runs that one image of ``channels`` (1 to 4, alpha included) takes: one, or one for
        each channel but alpha where the model is a gray one."""
        return channels - (channels in (2, 4)) if self.model.in_channels == 1 else 1

    def execution(self, run: Run, tiles: TileSettings) -> Execution:
        """What does a ``run`` over pieces."""

        def overlap() -> int:
            return self.overlap if tiles.overlap is None else tiles.overlap

        return Execution(self.model, self.device, self.dtype, run, overlap)

    def plan(
        self,
        height: int,
        width: int,
        tiles: TileSettings | None = None,
        batch: int = 1,
        beside: Callable[[int], int] | None = None,
        mask: Tensor | None = None,
        channels: int | None = None,
    ) -> Forecast:
        """How ``batch`` images of this size would be run now, and the memory it would take.

        ``channels`` (1 to 4, alpha included) is that of the images, by default the model's: a gray
        model restores those of a colour image one by one, as many together as separate images.

        ``mask`` (B or 1, H, W) is that of the images, where only a part of them is to be restored.

        ``beside`` is asked how many bytes of the machine's memory, model not included, a row of
        tiles of this height takes where an image is read and written by such rows; in ``auto`` mode
        tiles are then low enough for that too.

        Where they have to be cut and ``tiles`` do not say how far tiles overlap, the model is asked
        for it, once for this ``Restorer``; so it must be ready to run.
        """
        tiles = tiles or TileSettings()
        budget = tiles.memory_budget or free_memory(self.device)
        plan = self._plan_tiles(height, width, tiles, budget, beside)
        single = self.runs_of_an_image(channels or self.model.in_channels)
        pieces = batch * single
        if plan.tile_count > 1:
            pieces = sum(tile.size == plan.largest for tile in plan.tiles())
        at_once = self._at_once(*plan.largest, pieces, tiles.at_once, budget)
        memory = self.estimate_memory(*plan.largest, at_once)
        cut_as_needed = plan.tile_count > 1 and tiles.overlap is None
        needed = self.overlap if cut_as_needed else 0
        untouched = 0 if mask is None else _count_untouched(plan, mask, batch)
        return Forecast(
            *(plan.rows, plan.columns, batch, single, at_once, memory, budget, needed, untouched)
        )

    @cached_property
    def overlap(self) -> int:
        """Input pixels that tiles must share for no seam to show, found by running the model."""
        return find_overlap(self.model, self.device, self.dtype)

    def estimate_memory(self, height: int, width: int, batch: int = 1) -> int:
        """Bytes the model needs on its device for so many tiles or images of this size at once."""
        return self.model.estimate_memory(height, width, self.dtype, self.device, batch)

    def _plan_tiles(
        self,
        height: int,
        width: int,
        tiles: TileSettings,
        budget: float,
        beside: Callable[[int], int] | None,
    ) -> TilePlan:
        scale, alignment = self.model.scale, self.model.alignment
        free = free_memory(torch.device("cpu")) if beside else math.inf

        def fits(height: int, width: int) -> bool:
            needed = self.estimate_memory(height, width)
            rows = beside(height) if beside else 0
            on_cpu = self.device.type == "cpu"
            return needed <= budget and rows + (needed if on_cpu else 0) <= free

        if tiles.mode == "tiled":
            whole = height <= tiles.tile_height and width <= tiles.tile_width
        else:
            whole = tiles.mode == "whole" or fits(height, width)
        if whole:
            return plan_whole(height, width, scale)
        overlap = self.overlap if tiles.overlap is None else tiles.overlap
        if tiles.mode == "tiled":
            tile_size = (tiles.tile_height, tiles.tile_width)
            return plan_tiles((height, width), scale, alignment, tile_size, overlap)
        return plan_fitting(height, width, scale, alignment, overlap, fits)

    def _at_once(
        self, height: int, width: int, pieces: int, most: int | None, budget: float
    ) -> int:
        """How many of ``pieces`` of this size are run together."""
        if not self.model.stages:
            return 1
        if most is None:
            cpu = self.device.type == "cpu"
            most = (CPU_PIXELS_AT_ONCE if cpu else GPU_PIXELS_AT_ONCE) // (height * width)
        count = min(pieces, most)
        while count > 1 and self.estimate_memory(height, width, count) > budget:
            count //= 2
        return max(count, 1)

    def _cut(
        self, images: Tensor, results: Tensor, tiles: TileSettings, mask: Tensor | None
    ) -> tuple[list[Piece], Forecast]:
        """The pieces to run, of (B, H, W, C) into (B, sH, sW, C), and how they are."""
        batch, height, width, channels = images.shape
        single = self.runs_of_an_image(channels)
        plan = self.plan(height, width, tiles, batch, channels=channels)
        touched = [None] * batch if mask is None else _touched(mask, batch)
        pieces = [
            piece
            for image, result, part in zip(images, results, touched, strict=True)
            for channel in zip(
                image.tensor_split(single, -1), result.tensor_split(single, -1), strict=True
            )
            for piece in cut(*channel, plan)
            if part is None or piece.tile.of(part).any()
        ]
        return pieces, plan


def _touched(mask: Tensor, batch: int) -> Iterator[Tensor]:
    """Where a mask (B or 1, H, W) has an effect, (H, W) booleans for each image; made one by one,
    as those of a video would take much memory."""
    if len(mask) == 1:
        return itertools.repeat(spread(mask)[0], batch)
    return (spread(own[None])[0] for own in mask)


def _count_untouched(plan: TilePlan, mask: Tensor, batch: int) -> int:
    return sum(not tile.of(part).any() for part in _touched(mask, batch) for tile in plan.tiles())


def _first_parameter(model: Any) -> Tensor:
    return next(model.parameters())


def _narrowest_type(model: Any) -> torch.dtype:
    """That of the arithmetic: in half precision some parameters stay wider."""
    types = (parameter.dtype for parameter in model.parameters())
    return min(types, key=lambda dtype: dtype.itemsize)


def check_images(images: Tensor) -> None:
    """Raises ``ImageError`` where they are none that a ``Restorer`` takes."""
    if images.ndim != 4 or images.shape[-1] not in (1, 2, 3, 4):
        raise ImageError(
            f"images must be (batch, height, width, channels) with 1 to 4 channels, "
            f"got {tuple(images.shape)}."
        )
    if not images.is_floating_point():
        raise ImageError(f"images must be floats in 0..1, got {images.dtype}; divide by 255.")
    if 0 in images.shape[1:3]:
        raise ImageError(f"the images have no pixels: {tuple(images.shape)}.")


def finite(images: Tensor, warn: bool = True) -> Tensor:
    """Replace NaN and negative infinity by 0 and infinity by 1.

    Windows would spread such a value over their neighbours, and mixing with a mask would keep it.

    Args:
        images: Floats of any shape; looked through along the first dimension, as a whole video
            would take much memory.
        warn: Whether to log a warning where a value is replaced.

    Returns:
        ``images`` itself where all values are finite, otherwise a copy.
    """
    if all(image.isfinite().all() for image in images):
        return images
    if warn:
        _log.warning("the image has pixels that are NaN or infinite; taken as black or white")
    return images.nan_to_num(nan=0.0, posinf=1.0, neginf=0.0)


def checked_mask(mask: Tensor, images: Tensor) -> Tensor:
    """(B or 1, H, W) float32 in 0..1 on the CPU. Raises ``ImageError`` for another shape."""
    batch, height, width = images.shape[:3]
    if mask.ndim != 3 or mask.shape[1:] != (height, width):
        raise ImageError(
            f"the mask must be (batch, {height}, {width}) like the images, got {tuple(mask.shape)}."
        )
    if len(mask) not in (1, batch):
        raise ImageError(
            f"there are {len(mask)} masks for {batch} images; give one mask, or one for each."
        )
    return limited(mask)
