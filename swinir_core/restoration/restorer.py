"""Images in, restored images out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..choices import ALPHAS, COLORS, EDGES
from ..devices import free_memory
from ..errors import Cancelled
from ..images.resize import enlarged_bands
from ..reports import Report
from .colors import keep_colors, shrink
from .edges import WRAPPED, margins
from .execution import Job, Progress, Run, is_gray, make_jobs
from .image_model import Ensemble, ImageModel
from .inputs import Inputs, check_inputs, check_result, empty_result, result_bytes
from .masking import mix
from .overlap import find_overlap
from .planning import RunPlan, place_tiles, select_tiles
from .tiles import Tile, TilePlan, TileSettings
from .transparency import has_alpha, limit_alpha, spread_colors

_FRAME_PIXELS, _MOST_FRAMES = 2**18, 64
"""Of a video that are read at once: pixels, unless one frame has more, and frames."""


def most_together(height: int, width: int) -> int:
    """Find how many frames of this size are read to be run together, at most."""
    return min(max(_FRAME_PIXELS // (height * width), 1), _MOST_FRAMES)


class Restorer:
    """Runs a model over images of any size.

    A call checks the images, plans the run and does it. Who needs the plan first, to show it or to
    reserve memory, calls ``check_inputs``, ``plan_for`` and ``run``.

    The model stays where it is. All state of a run is local to the call; only how far tiles of this
    model have to overlap is found once and kept.

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
        edges: str = "network",
        colors: str = "model",
        alpha: str = "enlarged",
        strength: float = 1.0,
    ) -> None:
        """
        Args:
            model: In evaluation mode.
            device: Of the model's inputs; by default that of its first parameter.
            dtype: Of the model's inputs; by default the narrowest type of its parameters, of which
                some stay wider in half precision. Device and type must be given of a model that is
                not a ``torch.nn.Module``.
            ensemble: Whether to use the paper's x8 self-ensemble, which takes eight times as long.
            edges: One of ``EDGES``: what the network sees beyond the edges of an image.
            colors: One of ``COLORS``: whether colours are those of the model or of the input.
            alpha: One of ``ALPHAS``: how alpha becomes as large as the result.
            strength: Share of the model's picture in the result, 0 to 1, the rest being the input
                enlarged bicubically. At 0 nothing is computed.
        """
        for name, value, choices in (
            ("edges", edges, EDGES),
            ("colors", colors, COLORS),
            ("alpha", alpha, ALPHAS),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}.")
        if not 0 <= strength <= 1:
            raise ValueError(f"strength must be between 0 and 1, got {strength}.")
        self.edges, self.colors, self.alpha, self.strength = edges, colors, alpha, strength
        self.model = Ensemble(model) if ensemble else model
        self.device = torch.device(device or _parameters(model)[0].device)
        self.dtype: torch.dtype = dtype or min(
            (parameter.dtype for parameter in _parameters(model)), key=lambda dtype: dtype.itemsize
        )
        self._found_overlap: int | None = None

    def __call__(
        self,
        images: Tensor,
        tiles: TileSettings | None = None,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        finished: Callable[[Job], None] | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Restore images.

        Args:
            images: (B, H, W, C) floats in 0..1. C is 1 (gray), 2 (gray and alpha), 3 (RGB) or 4
                (RGB and alpha), and stays what it is. A colour model restores a gray image as three
                equal channels and the luma of its result is kept; a gray model restores the
                channels of a colour image one by one. Colours under transparency are replaced by
                those of the visible pixels around. Pixels that are NaN or infinite are taken as
                black or white, and a warning is logged; alpha is limited to 0..1.
            tiles: When and how images are cut.
            progress: Called many times within every tile.
            cancelled: Called as often; the run stops when it returns ``True``. What these callbacks
                raise passes through.
            finished: Called with every tile that is done, as it is before the mask is applied.
            mask: (B or 1, H, W) in 0..1: how much of the result is restored, the rest being the
                input enlarged bicubically. Tiles that it does not touch are not computed.

        Returns:
            (B, sH, sW, C) float32 in 0..1, on the CPU.

        Raises:
            ImageError: The images or the mask have another shape.
            MemoryError: Not even the smallest tile fits the memory, or the result does not.
            PrecisionError: float16 does not hold the numbers.
            Cancelled: ``cancelled`` returned ``True``.
        """
        inputs = check_inputs(images, mask)
        self.measure(inputs, cancelled)
        plan = self.plan_for(inputs, tiles, cancelled)
        return self.run(inputs, plan, progress, cancelled, finished)

    def measure(self, inputs: Inputs, cancelled: Callable[[], bool] | None = None) -> bool:
        """Let a model of which nothing is known find out by running what memory it takes.

        Costs two seconds, or a tenth of the run. Returns ``False`` where all was known before.
        Raises ``Cancelled``, and what ``cancelled`` raises.
        """
        pixels = inputs.images[..., 0].numel()
        return self.model.measure(self.dtype, self.device, pixels, _stop_when(cancelled))

    @torch.no_grad()
    def run(
        self,
        inputs: Inputs,
        plan: RunPlan,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        finished: Callable[[Job], None] | None = None,
    ) -> Tensor:
        """Restore images as planned.

        Tiles of equal size, of one image or of several small ones, are run together. Where memory
        runs out they are first run fewer at a time and then cut into smaller tiles; what is
        finished is kept, and so is the size that fits for all that follows. Beside the result no
        more memory is taken for many images than for those run together.

        Args:
            inputs: From ``check_inputs``.
            plan: From ``plan_for`` of these inputs, by this ``Restorer``.
            progress, cancelled, finished: As in a call of the ``Restorer``.

        Returns:
            (B, sH, sW, C) float32 in 0..1, on the CPU.

        Raises:
            ValueError: The plan is for images of another size.
            MemoryError, PrecisionError, Cancelled: As in a call of the ``Restorer``.
        """
        images, scale = inputs.images, self.model.scale
        batch, height, width, channels = images.shape
        if plan.tiles.image_size != (height, width):
            raise ValueError(
                f"the plan is for images of {plan.tiles.image_size}, these are {(height, width)}."
            )
        out = empty_result(batch, height * scale, width * scale, channels)
        results = out[..., : channels - has_alpha(channels)]
        run = self.begin(plan, progress, cancelled)
        jobs = (
            job
            for image, result, tiles in zip(images, results, plan.selected, strict=True)
            for job in make_jobs(
                spread_colors(image, plan.wrapped), result, tiles, self.model.in_channels
            )
        )
        for job in run.do(jobs):
            if finished is not None:
                finished(job)
        mask = self.share(inputs)
        masks = [None] * batch if mask is None else mask.expand(batch, -1, -1)
        if self.colors == "input" or mask is not None:
            for image, result, mask in zip(images, results, masks, strict=True):
                shown = spread_colors(image, plan.wrapped).float().cpu().clamp(0, 1)
                if self.colors == "input":
                    shrunk = shrink(result, scale)
                    keep_colors(
                        *(result, shown, shrunk, scale, mask),
                        wrapped=plan.wrapped,
                        report=run.check,
                    )
                if mask is not None:
                    # What keeps its size keeps its pixels, hidden ones too.
                    own = image[..., : result.shape[-1]] if scale == 1 else shown
                    mix(own, result, mask, scale, plan.wrapped, run.check)
        if has_alpha(channels):
            alphas = zip(images[..., -1:], out[..., -1:], plan.selected, masks, strict=True)
            for image, result, tiles, mask in alphas:
                self._add_alpha(image, result, tiles, mask, run)
        return out

    def share(self, inputs: Inputs) -> Tensor | None:
        """Find how much of the result is restored: (B or 1, H, W) in 0..1, or ``None`` for all."""
        if self.strength == 1:
            return inputs.mask
        mask = torch.ones(1, *inputs.images.shape[1:3]) if inputs.mask is None else inputs.mask
        return mask * self.strength

    def _add_alpha(
        self, image: Tensor, result: Tensor, tiles: Iterable[Tile], mask: Tensor | None, run: Run
    ) -> None:
        """Make the alpha of a result (sH, sW, 1), zero so far, from that of its image (H, W, 1)."""
        scale = self.model.scale
        if not run.plan.restores_alpha:
            for top, band in enlarged_bands(image, scale, run.plan.wrapped):
                run.check()
                result[top : top + len(band)] = band
            return
        for _ in run.do(make_jobs(image, result, tiles, self.model.in_channels)):
            pass
        result.copy_(limit_alpha(result, image, scale, wrapped=run.plan.wrapped))
        if mask is not None:
            mix(image, result, mask, scale, run.plan.wrapped, run.check)

    def begin(
        self,
        plan: RunPlan,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Run:
        """Make the state of a run that has done nothing yet."""
        overlap = partial(self._overlap, plan.settings, cancelled)
        return Run(self.model, self.device, self.dtype, plan, overlap, progress, cancelled)

    def plan_for(
        self,
        inputs: Inputs,
        tiles: TileSettings | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> RunPlan:
        """Plan the run of these inputs; see ``plan``. Colour images of equal channels count as
        gray. Raises ``MemoryError`` where the result alone is larger than the memory."""
        batch, height, width, channels = inputs.images.shape
        shape = (batch, height * self.model.scale, width * self.model.scale, channels)
        check_result(*shape)
        alpha = inputs.images[..., -1]
        # Nothing is to be restored where no image has an edge of transparency.
        with_alpha = has_alpha(channels) and any((one != one[0, 0]).any() for one in alpha)
        if self.model.in_channels == 1 and channels > 2 and is_gray(inputs.images[..., :3]):
            channels -= 2
        return self.plan(
            *(height, width, tiles, batch),
            # The system counts the result as free until it is written to.
            beside=(lambda _: result_bytes(*shape)) if self.device.type == "cpu" else None,
            mask=self.share(inputs),
            channels=channels,
            with_alpha=with_alpha,
            cancelled=cancelled,
        )

    def plan(
        self,
        height: int,
        width: int,
        tiles: TileSettings | None = None,
        batch: int = 1,
        beside: Callable[[int], int] | None = None,
        mask: Tensor | None = None,
        channels: int | None = None,
        with_alpha: bool = False,
        cancelled: Callable[[], bool] | None = None,
    ) -> RunPlan:
        """Plan a run over equally large images with the memory that is free now.

        Where they are cut and ``tiles`` leave the overlap to the model, it is run to find it, once
        for this ``Restorer``; so its weights must be loaded.

        Args:
            height, width: Of the images, in input pixels.
            tiles: When and how images are cut.
            batch: Number of images.
            beside: Returns the bytes of the machine's memory, model not included, that a row of
                tiles of the given height takes where an image is read and written by such rows, or
                the whole result; in the mode ``auto`` tiles are then small enough for that too.
            mask: (B or 1, H, W) of the images.
            channels: Of the images (1 to 4, alpha included), by default of the model. A gray model
                restores those of a colour image one by one, together like separate images.
            with_alpha: Whether the images have an alpha that is not the same everywhere.
            cancelled: Called while the model is run to find the overlap, as in a run.
        """
        settings, single = tiles or TileSettings(), 1
        if self.model.in_channels == 1 and channels is not None:
            single = channels - has_alpha(channels)
        budget = settings.memory_budget or free_memory(self.device)
        free = free_memory(torch.device("cpu")) if beside else math.inf
        on_cpu = self.device.type == "cpu"

        def affordable(height: int, width: int, count: int = 1) -> bool:
            needed = self.estimate_memory(height, width, count)
            rows = beside(height) if beside else 0
            return needed <= budget and rows + (needed if on_cpu else 0) <= free

        def fits(height: int, width: int) -> bool:
            return height * width <= self.model.tile_pixels and affordable(height, width)

        # Tiles are placed on an image with what is seen beyond its edges.
        wrapped, overlap = WRAPPED[self.edges], partial(self._overlap, settings, cancelled)
        placed = self._place((height, width), settings, overlap, fits)
        size, is_cut = placed.largest, len(placed) > 1
        count = sum(tile.size == size for tile in placed) if is_cut else batch * single
        pixels, wanted = math.prod(size), settings.at_once
        at_once = self.model.at_once(pixels, count, self.dtype, self.device, wanted)
        while at_once > 1 and not affordable(*size, at_once):
            at_once //= 2
        return RunPlan(
            tiles=placed,
            settings=settings,
            selected=select_tiles(placed, batch, mask, wrapped),
            wrapped=wrapped,
            runs_of_an_image=single,
            restores_alpha=with_alpha and self.alpha == "restored",
            at_once=at_once,
            memory=self.estimate_memory(*size, at_once),
            budget=budget,
            overlap_wanted=overlap() if is_cut else 0,
        )

    def _place(
        self,
        size: tuple[int, int],
        settings: TileSettings,
        overlap: Callable[[], int],
        fits: Callable[[int, int], bool],
    ) -> TilePlan:
        """Place tiles on an image with what is seen beyond its edges.

        Nothing is where the model itself takes the image as wrapped, which it does where its
        windows do: wrapped sides are whole windows, and the image is not cut.
        """
        model, wrapped = self.model, WRAPPED[self.edges]
        whole_windows = not any(
            side % model.alignment for side, wraps in zip(size, wrapped, strict=True) if wraps
        )
        if any(wrapped) and whole_windows and model.wrapping(wrapped) is not None:
            placed = place_tiles(size, settings, model, overlap, fits)
            if len(placed) == 1:
                return placed
        windows = max(-(-overlap() // model.alignment), 1) if any(wrapped) else 0
        around = margins(self.edges, windows * model.alignment)
        above, beside = around
        seen = (size[0] + 2 * above, size[1] + 2 * beside)
        return place_tiles(seen, settings, model, overlap, fits).around(around)

    @property
    def overlap(self) -> int:
        """Input pixels that tiles must share for no seam to show, found by running the model."""
        return self._overlap(TileSettings())

    def _overlap(self, settings: TileSettings, cancelled: Callable[[], bool] | None = None) -> int:
        if settings.overlap is not None:
            return settings.overlap
        if self._found_overlap is None:
            self._found_overlap = find_overlap(
                self.model, self.device, self.dtype, _stop_when(cancelled)
            )
        return self._found_overlap

    def estimate_memory(self, height: int, width: int, batch: int = 1) -> int:
        """Estimate the bytes on its device that the model needs for a call on this size."""
        return self.model.estimate_memory(height, width, self.dtype, self.device, batch)


def _stop_when(cancelled: Callable[[], bool] | None) -> Report:
    """Make a report for a call that is no part of a run, only to stop it."""

    def report(_: float) -> None:
        if cancelled is not None and cancelled():
            raise Cancelled("stopped before the run")

    return report


def _parameters(model: Any) -> list[Tensor]:
    return list(model.parameters())
