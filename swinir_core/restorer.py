"""Images in, restored images out: channels, tiles, progress and cancelling."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .color import rgb_to_gray
from .errors import Cancelled, ImageError, PrecisionError
from .memory import free_memory, is_out_of_memory
from .tiling import (
    TilePlan,
    TileSettings,
    can_be_cut,
    plan_fitting,
    plan_tiles,
    plan_whole,
)

Progress = Callable[[int, int], None]
"""Called with (pixels done, pixels in all); input pixels, overlaps included. The second grows when
tiles have to be cut smaller."""


class ImageModel(Protocol):
    """What a ``Restorer`` runs: a ``SwinIR``, or anything that says the same of itself."""

    @property
    def scale(self) -> int: ...

    @property
    def in_channels(self) -> int: ...

    @property
    def alignment(self) -> int: ...

    @property
    def stages(self) -> Sequence[nn.Module]:
        """Modules a run passes one after another, about equally long; may be none."""
        ...

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device
    ) -> int:
        """Peak growth in bytes while one image of this size is run in one piece."""
        ...

    def __call__(self, x: Tensor, /) -> Tensor:
        """(B, in_channels, H, W) to (B, in_channels, scale * H, scale * W)."""
        ...


class Restorer:
    """Runs a model over images of any size.

    The model stays where it is: ``device`` and ``dtype`` are those of its inputs, by default those
    of its first parameter. All state of a run is local to the call.
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
        latter says yes, ``Cancelled`` is raised, and what either raises passes through. A tile that
        does not fit the memory is cut smaller, and so are all that follow; what is finished is
        kept. Raises ``ImageError`` for images of another shape, ``MemoryError`` when not even the
        smallest tile fits, ``PrecisionError`` when float16 does not hold the numbers.
        """
        _check_images(images)
        tiles = tiles or TileSettings()
        batch, height, width, channels = images.shape
        scale = self.model.scale
        plan = self.plan(height, width, tiles)
        call = _Call(plan.pixels * batch, progress, cancelled, tiles.overlap)
        out = torch.zeros(batch, height * scale, width * scale, channels)
        color_channels = channels - (channels in (2, 4))
        for image, result in zip(images, out, strict=True):
            for tile in plan.tiles():
                pixels = tile.of(image)[..., :color_channels]
                tile.add(self._restore(pixels, call), result[..., :color_channels], scale)
            if color_channels < channels:
                result[..., -1] = enlarge_alpha(image[..., -1], scale)
        return out

    def plan(self, height: int, width: int, tiles: TileSettings) -> TilePlan:
        """The tiles one image of this size is cut into."""
        scale, alignment = self.model.scale, self.model.alignment
        if tiles.mode == "whole":
            return plan_whole(height, width, scale)
        if tiles.mode == "tiled":
            return plan_tiles(height, width, scale, alignment, tiles)
        budget = tiles.memory_budget or free_memory(self.device)
        return plan_fitting(
            *(height, width, scale, alignment, tiles.overlap),
            fits=lambda *tile: self.estimate_memory(*tile) <= budget,
        )

    def estimate_memory(self, height: int, width: int) -> int:
        """Bytes the model needs on its device for one tile or image of this size."""
        return self.model.estimate_memory(height, width, self.dtype, self.device)

    def _restore(self, pixels: Tensor, call: _Call) -> Tensor:
        """(h, w, 1 or 3) to (sh, sw, 1 or 3), in smaller tiles where memory runs out."""
        height, width, channels = pixels.shape
        scale, alignment = self.model.scale, self.model.alignment
        smallest = not can_be_cut(height, width, alignment, call.overlap)
        if smallest or height * width <= call.most_pixels:
            try:
                return self._run(pixels, call)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # Beyond the except block, whose traceback keeps the tensors of the failed run alive.
            call.ran_out_of_memory(height, width)
        if smallest:
            raise MemoryError(
                f"out of memory even for {width}x{height} pixels, tried after {call.tried}; "
                f"close other programs, or use a smaller model or lower precision"
            )
        plan = plan_fitting(
            *(height, width, scale, alignment, call.overlap),
            fits=lambda *tile: math.prod(tile) <= call.most_pixels,
        )
        call.total += plan.pixels - height * width
        out = torch.zeros(height * scale, width * scale, channels)
        for tile in plan.tiles():
            tile.add(self._restore(tile.of(pixels), call), out, scale)
        return out

    def _run(self, pixels: Tensor, call: _Call) -> Tensor:
        """(h, w, 1 or 3) to (sh, sw, 1 or 3) float32 in 0..1 on the CPU, in one piece."""
        x = pixels.movedim(-1, 0).to(self.device, self.dtype)
        channels = x.shape[0]
        if channels == 3 and self.model.in_channels == 1:
            inputs = [channel[None] for channel in x]
        else:
            inputs = [x.expand(self.model.in_channels, -1, -1)]
        area = pixels.shape[0] * pixels.shape[1] / len(inputs)
        y = torch.cat([self._run_model(x, area, call) for x in inputs])
        if self.dtype == torch.float16 and not y.isfinite().all():
            raise PrecisionError("these weights overflow float16; use bfloat16 or float32")
        y = y.float().clamp_(0, 1).movedim(0, -1).cpu()
        return y if y.shape[-1] == channels else rgb_to_gray(y)[..., None]

    def _run_model(self, x: Tensor, area: float, call: _Call) -> Tensor:
        """(C, h, w) through the model, telling ``call`` of every stage; they add up to ``area``."""
        call.check()
        stages = self.model.stages
        before = call.done

        def stage_done(*_: object) -> None:
            call.advance(area / (len(stages) + 1))
            call.check()

        hooks = [stage.register_forward_hook(stage_done) for stage in stages]
        try:
            y = self.model(x[None])[0]
            call.advance(before + area - call.done)
            return y
        except BaseException:
            call.done = before
            raise
        finally:
            for hook in hooks:
                hook.remove()


@dataclass
class _Call:
    """What one call of a ``Restorer`` has done, and what it has learned about the memory."""

    total: float
    """Input pixels to compute, overlaps included."""

    progress: Progress | None
    cancelled: Callable[[], bool] | None
    overlap: int
    done: float = 0

    most_pixels: float = math.inf
    """The largest tile worth trying."""

    tried: str = ""
    """The sizes for which memory ran out."""

    def check(self) -> None:
        if self.cancelled is not None and self.cancelled():
            raise Cancelled(f"stopped after {self.done:.0f} of {self.total:.0f} pixels")

    def advance(self, pixels: float) -> None:
        self.done += pixels
        if self.progress is not None:
            self.progress(round(self.done), round(self.total))

    def ran_out_of_memory(self, height: int, width: int) -> None:
        self.tried += f"{', ' if self.tried else ''}{width}x{height}"
        self.most_pixels = height * width // 2


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
