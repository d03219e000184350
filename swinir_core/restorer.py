"""Images in, restored images out: channels, tiles, batches, progress, cancelling, out of memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .color import rgb_to_gray
from .errors import ImageError, PrecisionError
from .image_model import ImageModel
from .memory import free_memory, is_out_of_memory
from .overlap import find_overlap
from .run import Forecast, Progress, Run
from .tiling import (
    Tile,
    TilePlan,
    TileSettings,
    can_be_cut,
    plan_fitting,
    plan_tiles,
    plan_whole,
)

CPU_PIXELS_AT_ONCE = 2**13
"""Small pieces are run together up to so many input pixels. On a CPU frames of 16x16 are three
times as fast for it and those of 32x32 1.4 times; from 64x64 on nothing is gained."""

GPU_PIXELS_AT_ONCE = 2**18
"""The same where it takes more to keep the device busy; chosen, not measured."""


@dataclass(frozen=True)
class Piece:
    """What is run by itself: a tile, or an image that is one."""

    tile: Tile
    image: Tensor
    """(H, W, C)"""

    result: Tensor
    """(sH, sW, C) on the CPU, to be filled."""


class Restorer:
    """Runs a model over images of any size.

    The model stays where it is: ``device`` and ``dtype`` are those of its inputs, by default those
    of its first parameter. All state of a run is local to the call; only how far tiles of this
    model have to overlap is found once and kept.
    """

    def __init__(
        self,
        model: ImageModel,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.model = model
        self.device = torch.device(_first_parameter(model).device if device is None else device)
        self.dtype: torch.dtype = _first_parameter(model).dtype if dtype is None else dtype

    @torch.no_grad()
    def __call__(
        self,
        images: Tensor,
        tiles: TileSettings | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Tensor:
        """Restore (B, H, W, C) floats in 0..1 to (B, sH, sW, C) float32 in 0..1, on the CPU.

        C is 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha), and stays what it is.
        A colour model restores a gray image as three equal channels and the luma of its result is
        kept; a gray model restores the channels of a colour image one by one. Alpha is enlarged
        bicubically, not restored.

        ``progress`` is told and ``cancelled`` is asked many times within every tile; when the
        latter says yes, ``Cancelled`` is raised, and what either raises passes through.

        Pieces of equal size, be they tiles or small images, are run together as ``plan`` says.
        Where memory runs out they are first run fewer at a time and then cut into smaller tiles;
        what is finished is kept, and so is the size that fits for all that follows. Beside the
        result no more memory is taken for many images than for those run together.

        Raises ``ImageError`` for images of another shape, ``MemoryError`` when not even the
        smallest tile fits, ``PrecisionError`` when float16 does not hold the numbers.
        """
        _check_images(images)
        tiles = tiles or TileSettings()
        batch, height, width, channels = images.shape
        scale = self.model.scale
        out = torch.zeros(batch, height * scale, width * scale, channels)
        if channels in (2, 4):
            for image, result in zip(images, out, strict=True):
                result[..., -1] = enlarge_alpha(image[..., -1], scale)
            channels -= 1
        inputs = self._as_the_model_takes_them(images[..., :channels])
        results = self._as_the_model_takes_them(out[..., :channels])
        plan = self.plan(height, width, tiles, len(inputs))
        run = Run(
            total=plan.pixels * batch,
            most_pixels=plan.at_once * math.prod(plan.largest),
            share=batch / max(len(inputs), 1),
            overlap=tiles.overlap,
            progress=progress,
            cancelled=cancelled,
        )
        self._fill(inputs, results, plan, run)
        return out

    def plan(
        self, height: int, width: int, tiles: TileSettings | None = None, batch: int = 1
    ) -> Forecast:
        """How ``batch`` images of this size would be run now, and the memory it would take.

        Where they have to be cut and ``tiles`` do not say how far tiles overlap, the model is asked
        for it, once for this ``Restorer``; so it must be ready to run.
        """
        tiles = tiles or TileSettings()
        budget = tiles.memory_budget or free_memory(self.device)
        plan = self._plan_tiles(height, width, tiles, budget)
        pieces = batch * sum(tile.size == plan.largest for tile in plan.tiles())
        at_once = self._at_once(*plan.largest, pieces, budget)
        memory = self.estimate_memory(*plan.largest, at_once)
        return Forecast(plan.rows, plan.columns, batch, at_once, memory)

    @cached_property
    def overlap(self) -> int:
        """Input pixels that tiles must share for no seam to show, found by running the model."""
        return find_overlap(self.model, self.device, self.dtype)

    def estimate_memory(self, height: int, width: int, batch: int = 1) -> int:
        """Bytes the model needs on its device for so many tiles or images of this size at once."""
        return self.model.estimate_memory(height, width, self.dtype, self.device, batch)

    def _plan_tiles(self, height: int, width: int, tiles: TileSettings, budget: float) -> TilePlan:
        scale, alignment = self.model.scale, self.model.alignment

        def fits(height: int, width: int) -> bool:
            return self.estimate_memory(height, width) <= budget

        if tiles.mode == "tiled":
            whole = max(height, width) <= tiles.tile_size
        else:
            whole = tiles.mode == "whole" or fits(height, width)
        if whole:
            return plan_whole(height, width, scale)
        overlap = self.overlap if tiles.overlap is None else tiles.overlap
        if tiles.mode == "tiled":
            return plan_tiles(height, width, scale, alignment, tiles.tile_size, overlap)
        return plan_fitting(height, width, scale, alignment, overlap, fits)

    def _at_once(self, height: int, width: int, pieces: int, budget: float) -> int:
        """How many of ``pieces`` of this size are run together."""
        cpu = self.device.type == "cpu"
        most = (CPU_PIXELS_AT_ONCE if cpu else GPU_PIXELS_AT_ONCE) // (height * width)
        count = min(pieces, most) if self.model.stages else 1
        while count > 1 and self.estimate_memory(height, width, count) > budget:
            count //= 2
        return max(count, 1)

    def _as_the_model_takes_them(self, images: Tensor) -> list[Tensor]:
        """Views (H, W, C) of ``images`` (B, H, W, C); of every channel for a model of gray ones."""
        if self.model.in_channels == 1:
            return [channel for image in images for channel in image.split(1, dim=-1)]
        return list(images)

    def _fill(self, images: list[Tensor], results: list[Tensor], plan: TilePlan, run: Run) -> None:
        """Restore ``images`` (H, W, C), tile by tile, into ``results`` (sH, sW, C) of zeros."""
        for tiles in plan.groups():
            pieces = [
                Piece(tile, image, result)
                for image, result in zip(images, results, strict=True)
                for tile in tiles
            ]
            while pieces:
                unit = pieces[: run.at_once(*tiles[0].size)]
                if self._restore(unit, run):
                    del pieces[: len(unit)]

    def _restore(self, unit: list[Piece], run: Run) -> bool:
        """Whether pieces of equal size are restored. If not, they have to be run fewer at once; one
        alone is cut into smaller tiles where memory runs out."""
        pixels = torch.stack([piece.tile.of(piece.image) for piece in unit])
        restored = self._run_if_it_fits(pixels, run)
        if restored is None:
            if len(unit) > 1:
                return False
            restored = self._restore_in_smaller_tiles(pixels[0], run)[None]
        for piece, own in zip(unit, restored, strict=True):
            piece.tile.add(own, piece.result, self.model.scale)
        return True

    def _run_if_it_fits(self, pixels: Tensor, run: Run) -> Tensor | None:
        """(n, h, w, C) to (n, sh, sw, C) at once, or nothing where memory runs out or did so for
        less before."""
        pieces, height, width, _ = pixels.shape
        if pieces * height * width > run.most_pixels:
            return None
        try:
            return self._run_pieces(pixels, run)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Beyond the except block, whose traceback keeps the tensors of the failed run alive.
        release_cached_memory(self.device)
        run.ran_out_of_memory(pieces, height, width)
        return None

    def _restore_in_smaller_tiles(self, pixels: Tensor, run: Run) -> Tensor:
        """(h, w, C) to (sh, sw, C) on the CPU."""
        height, width, channels = pixels.shape
        plan = self._plan_smaller_tiles(height, width, run)
        run.total += (plan.pixels - height * width) * run.share
        scale = self.model.scale
        out = torch.zeros(height * scale, width * scale, channels)
        self._fill([pixels], [out], plan, run)
        return out

    def _plan_smaller_tiles(self, height: int, width: int, run: Run) -> TilePlan:
        """How a tile for which memory ran out, now or before, is cut."""
        overlap = self.overlap if run.overlap is None else run.overlap
        if not can_be_cut(height, width, self.model.alignment, overlap):
            raise MemoryError(
                f"out of memory even for {width}x{height} pixels, tried after "
                f"{', '.join(run.tried)}; "
                f"close other programs, or use a smaller model or lower precision"
            )
        if (height, width) not in run.smaller_plans:
            run.smaller_plans[height, width] = plan_fitting(
                *(height, width, self.model.scale, self.model.alignment, overlap),
                fits=lambda *tile: math.prod(tile) <= run.most_pixels,
            )
        plan = run.smaller_plans[height, width]
        # There are no smaller ones, so these are tried even where they are more than half.
        run.most_pixels = max(run.most_pixels, math.prod(plan.largest))
        return plan

    def _run_pieces(self, pixels: Tensor, run: Run) -> Tensor:
        """(n, h, w, C) to (n, sh, sw, C) float32 in 0..1 on the device, all at once."""
        channels = pixels.shape[-1]
        x = pixels.movedim(-1, 1).to(self.device, self.dtype)
        y = self._run_model(x.expand(-1, self.model.in_channels, -1, -1), run)
        if self.dtype == torch.float16 and not y.isfinite().all():
            raise PrecisionError("these weights overflow float16; use bfloat16 or float32")
        y = y.float().clamp_(0, 1).movedim(1, -1)
        return y if y.shape[-1] == channels else rgb_to_gray(y)[..., None]

    def _run_model(self, x: Tensor, run: Run) -> Tensor:
        """(n, C, h, w) through the model, telling ``run`` of every stage."""
        run.check()
        stages = self.model.stages
        before, area = run.done, x[:, 0].numel() * run.share

        def stage_done(*_: object) -> None:
            run.advance(area / (len(stages) + 1))
            run.check()

        hooks = [stage.register_forward_hook(stage_done) for stage in stages]
        try:
            y = self.model(x)
            run.advance(before + area - run.done)
            return y
        except BaseException:
            run.done = before
            raise
        finally:
            for hook in hooks:
                hook.remove()


def release_cached_memory(device: torch.device) -> None:
    """Give back what the allocator of a GPU keeps for tensors of the size that did not fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _first_parameter(model: Any) -> Tensor:
    return next(model.parameters())


def enlarge_alpha(alpha: Tensor, scale: int) -> Tensor:
    """(H, W) in 0..1 to (scale * H, scale * W) float32 on the CPU, bicubically."""
    alpha = alpha.float().cpu()
    if scale == 1:
        return alpha
    enlarged = F.interpolate(alpha[None, None], scale_factor=scale, mode="bicubic")
    return enlarged[0, 0].clamp(0, 1)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[-1] not in (1, 2, 3, 4):
        raise ImageError(
            f"images must be (batch, height, width, channels) with 1 to 4 channels, "
            f"got {tuple(images.shape)}."
        )
    if not images.is_floating_point():
        raise ImageError(f"images must be floats in 0..1, got {images.dtype}; divide by 255.")
    if 0 in images.shape[1:3]:
        raise ImageError(f"the images have no pixels: {tuple(images.shape)}.")
