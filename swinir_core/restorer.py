"""Images in, restored images out: channels, tiles, progress and cancelling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from .color import rgb_to_gray
from .errors import Cancelled, ImageError
from .memory import free_memory
from .tiling import TilePlan, TileSettings, plan_tiles, plan_whole

Progress = Callable[[int, int], None]
"""Called with (pixels done, pixels in all) after every tile; input pixels, overlaps included."""


class ImageModel(Protocol):
    """What a ``Restorer`` runs: a ``SwinIR``, or anything that says the same of itself."""

    @property
    def scale(self) -> int: ...

    @property
    def in_channels(self) -> int: ...

    @property
    def alignment(self) -> int: ...

    def estimate_memory(self, height: int, width: int, dtype: torch.dtype) -> int:
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

        ``cancelled`` is asked before every tile; when it says yes, ``Cancelled`` is raised. Raises
        ``ImageError`` for images of another shape.
        """
        _check_images(images)
        batch, height, width, channels = images.shape
        scale = self.model.scale
        plan = self.plan(height, width, tiles or TileSettings())
        out = torch.zeros(batch, height * scale, width * scale, channels)
        color_channels = channels - (channels in (2, 4))
        total = plan.pixels * batch
        done = 0
        for image, result in zip(images, out, strict=True):
            for rows, columns in plan.tiles():
                if cancelled is not None and cancelled():
                    raise Cancelled(f"stopped after {done} of {total} pixels")
                tile = image[rows.start : rows.stop, columns.start : columns.stop, :color_channels]
                restored = self._restore_tile(tile)
                target = result[
                    rows.start * scale : rows.stop * scale,
                    columns.start * scale : columns.stop * scale,
                    :color_channels,
                ]
                target += restored * (rows.weights[:, None, None] * columns.weights[:, None])
                done += tile.shape[0] * tile.shape[1]
                if progress is not None:
                    progress(done, total)
            if color_channels < channels:
                result[..., -1] = enlarge_alpha(image[..., -1], scale)
        return out

    def plan(self, height: int, width: int, tiles: TileSettings) -> TilePlan:
        """The tiles one image of this size is cut into."""
        if tiles.mode == "whole" or (tiles.mode == "auto" and self._fits(height, width, tiles)):
            return plan_whole(height, width, self.model.scale)
        return plan_tiles(height, width, self.model.scale, self.model.alignment, tiles)

    def _fits(self, height: int, width: int, tiles: TileSettings) -> bool:
        budget = tiles.memory_budget
        if budget is None:
            budget = free_memory(self.device)
        return self.model.estimate_memory(height, width, self.dtype) <= budget

    def _restore_tile(self, tile: Tensor) -> Tensor:
        """(h, w, 1 or 3) to (sh, sw, 1 or 3) float32 in 0..1 on the CPU."""
        x = tile.movedim(-1, 0).to(self.device, self.dtype)
        channels = x.shape[0]
        if channels == self.model.in_channels:
            y = self.model(x[None])[0]
        elif self.model.in_channels == 1:
            y = self.model(x[:, None])[:, 0]
        else:
            y = self.model(x.expand(1, self.model.in_channels, -1, -1))[0]
        y = y.float().clamp_(0, 1).movedim(0, -1).cpu()
        return y if y.shape[-1] == channels else rgb_to_gray(y)[..., None]


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
