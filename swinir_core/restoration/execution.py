"""Pieces of images through a model: together, one by one, or smaller where memory runs out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice

import torch
from torch import Tensor

from ..devices import is_out_of_memory, release_cached_memory
from ..errors import PrecisionError
from ..images.color import rgb_to_gray
from .image_model import ImageModel
from .run import Run
from .tiles import Tile, TilePlan, can_be_cut, plan_fitting


@dataclass(frozen=True)
class Piece:
    """What is run by itself: a tile, or an image that is one."""

    tile: Tile
    image: Tensor
    """(H, W, C)"""

    result: Tensor
    """(sH, sW, C) on the CPU, zero where no piece is done yet."""


def cut(image: Tensor, result: Tensor, plan: TilePlan) -> list[Piece]:
    """The pieces of ``image`` (H, W, C), to be restored into ``result`` (sH, sW, C), those of one
    size together."""
    return [Piece(tile, image, result) for tile in plan.tiles_by_size()]


@dataclass(frozen=True)
class Execution:
    """One run of a model over pieces of equally large images."""

    model: ImageModel
    device: torch.device
    dtype: torch.dtype
    run: Run

    overlap: Callable[[], int]
    """Input pixels that tiles which have to be cut smaller share."""

    def fill(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Restore every piece into its result, in order, neighbours of equal size together, and
        yield each when it is done."""
        waiting = deque(pieces)
        with self.model.reusing_plans():
            while waiting:
                _, equal = next(groupby(waiting, key=lambda piece: piece.tile.size))
                unit = list(islice(equal, self.run.at_once(*waiting[0].tile.size)))
                if self._restore(unit):
                    for piece in unit:
                        waiting.popleft()
                        yield piece

    def _restore(self, unit: list[Piece]) -> bool:
        """Whether pieces of equal size are restored. If not, they have to be run fewer at once; one
        alone is cut into smaller tiles where memory runs out."""
        pixels = torch.stack([piece.tile.of(piece.image) for piece in unit])
        restored = self._run_if_it_fits(pixels)
        if restored is None:
            if len(unit) > 1:
                return False
            restored = self._restore_in_smaller_tiles(pixels[0])[None]
        for piece, own in zip(unit, restored, strict=True):
            piece.tile.add(own, piece.result, self.model.scale)
        return True

    def _run_if_it_fits(self, pixels: Tensor) -> Tensor | None:
        """(n, h, w, C) to (n, sh, sw, C) at once, or nothing where memory runs out or did so for
        less before."""
        pieces, height, width, _ = pixels.shape
        if pieces * height * width > self.run.most_pixels:
            return None
        try:
            return self._run_pieces(pixels)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Beyond the except block, whose traceback keeps the tensors of the failed run alive.
        release_cached_memory(self.device)
        self.run.ran_out_of_memory(pieces, height, width)
        return None

    def _restore_in_smaller_tiles(self, pixels: Tensor) -> Tensor:
        """(h, w, C) to (sh, sw, C) on the CPU."""
        height, width, channels = pixels.shape
        plan = self._plan_smaller_tiles(height, width)
        self.run.total += (plan.pixels - height * width) * self.run.share
        scale = self.model.scale
        out = torch.zeros(height * scale, width * scale, channels)
        for _ in self.fill(cut(pixels, out, plan)):
            pass
        return out

    def _plan_smaller_tiles(self, height: int, width: int) -> TilePlan:
        """How a tile for which memory ran out, now or before, is cut."""
        run, overlap = self.run, self.overlap()
        scale, alignment = self.model.scale, self.model.alignment
        if not can_be_cut(height, width, alignment, overlap):
            raise MemoryError(
                f"out of memory even for {width}x{height} pixels, tried after "
                f"{', '.join(run.tried)}; "
                f"close other programs, or use a smaller model or lower precision"
            )
        if (height, width) not in run.smaller_plans:
            run.smaller_plans[height, width] = plan_fitting(
                *(height, width, scale, alignment, overlap),
                fits=lambda *tile: math.prod(tile) <= run.most_pixels,
            )
        plan = run.smaller_plans[height, width]
        # There are no smaller ones, so these are tried even where they are more than half.
        run.most_pixels = max(run.most_pixels, math.prod(plan.largest))
        return plan

    def _run_pieces(self, pixels: Tensor) -> Tensor:
        """(n, h, w, C) to (n, sh, sw, C) float32 in 0..1 on the device, all at once."""
        channels = pixels.shape[-1]
        x = pixels.movedim(-1, 1).to(self.device, self.dtype)
        y = self._run_model(x.expand(-1, self.model.in_channels, -1, -1))
        if self.dtype == torch.float16 and not y.isfinite().all():
            raise PrecisionError("these weights overflow float16; use bfloat16 or float32")
        y = y.float().clamp_(0, 1).movedim(1, -1)
        return y if y.shape[-1] == channels else rgb_to_gray(y)[..., None]

    def _run_model(self, x: Tensor) -> Tensor:
        """(n, C, h, w) through the model, counting every stage."""
        run, stages = self.run, self.model.stages
        run.check()
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
