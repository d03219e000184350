"""Images through an ``UPSCALE_MODEL`` with the options of the restore node."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...swinir_core import Restorer, TileSettings
from ...swinir_core.choices import ALPHAS, COLORS, EDGES, PRECISIONS, SIZE_VALUE, SIZES
from ...swinir_core.restoration.edges import WRAPPED
from ...swinir_core.restoration.execution import Job
from ...swinir_core.restoration.image_model import ImageModel
from ...swinir_core.restoration.inputs import Inputs, check_inputs
from ...swinir_core.restoration.planning import RunPlan
from ...swinir_core.restoration.preview import Preview
from ...swinir_core.restoration.sizing import Sized, TargetSize, restore_to_size
from ...swinir_core.restoration.streaming import WRAPPED_MARGIN
from .. import host
from .runnable import to_runnable


class Restoration:
    """A model with the options of the restore node, under the host's memory management."""

    def __init__(
        self,
        upscale_model: Any,
        precision: str = "auto",
        ensemble: bool = False,
        tile_settings: TileSettings | None = None,
        edges: str = EDGES[0],
        colors: str = COLORS[0],
        alpha: str = ALPHAS[0],
        size: str = SIZES[0],
        size_value: float = SIZE_VALUE,
        strength: float = 1.0,
        multiple: int = 1,
    ) -> None:
        """The arguments are the inputs of the node, and ``multiple`` is that of a ``TargetSize``.
        Raises ``ValueError`` naming a wrong one."""
        self.target = TargetSize(size, size_value, multiple)
        self.runnable = to_runnable(upscale_model)
        self.tiles = tile_settings or TileSettings()
        model, self.device = self.runnable.model, self.runnable.patcher.load_device
        dtype = find_precision(precision, model, self.device)
        self.restorer = Restorer(
            model, self.device, dtype, ensemble, edges, colors, alpha, strength
        )
        self.name = "SwinIR Restore" + " in eight ways" * ensemble

    def run(self, progress: host.Progress, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Restore images (B, H, W, C).

        Returns (B, sH, sW, C) float32 in 0..1 on the CPU. Raises what a ``Restorer`` does.
        """
        inputs = check_inputs(image, mask, True)
        plan = self.plan(inputs, inputs)
        logging.info("%s: %s", self.name, plan.summary())
        return self.restore(inputs, plan, progress, progress.advance)

    def plan(self, inputs: Inputs, in_all: Inputs) -> RunPlan | Sized:
        """Load the model and plan a run over ``inputs``, which are a part of the images that there
        are ``in_all``."""
        # Anything may have been evicted since the last run, so the model is requested every time.
        self._load(inputs)
        if self.restorer.measure(in_all, host.interrupted):
            self._load(inputs)
        tiles = within(self.tiles, host.free_memory(self.runnable.patcher))
        if self.target.is_of_model(inputs, self.runnable.model.scale):
            return self.restorer.plan_for(inputs, tiles, host.interrupted)
        return Sized.of_first(self.restorer, inputs, self.target, tiles, host.interrupted)

    def restore(
        self,
        inputs: Inputs,
        plan: RunPlan | Sized,
        progress: host.Progress,
        advance: Callable[[int, int], None],
    ) -> Tensor:
        """Restore images as ``plan`` says; ``advance`` is called with the pixels done and in all,
        ``progress`` shows what is finished."""
        preview = Preview()

        def show() -> None:
            if progress.wants_picture():
                progress.show(preview.picture())

        def finished(job: Job) -> None:
            preview.add(job)
            show()

        def finished_rows(image: Tensor, result: Tensor, start: int, stop: int) -> None:
            preview.add_rows(image, result, start, stop)
            show()

        if isinstance(plan, Sized):
            return restore_to_size(
                *(self.restorer, inputs, self.target, plan.tiles),
                *(advance, host.interrupted, finished_rows),
            )
        return self.restorer.run(inputs, plan, advance, host.interrupted, finished)

    def _load(self, inputs: Inputs) -> None:
        tiles = within(self.tiles, host.total_memory(self.device))
        self.runnable.load(memory_required(self.restorer, inputs, self.target, tiles))


def find_precision(name: str, model: ImageModel, device: torch.device) -> torch.dtype:
    """Return the type to compute in for a choice of precision.

    Raises ``ValueError`` for an unknown choice, and for one that ``model`` does not take.
    """
    host.check_choice("precision", name, ("auto", *PRECISIONS))
    half_types = model.half_types(device)
    if name == "auto":
        return host.fastest_precision(device, half_types)
    dtype, able = getattr(torch, name), (torch.float32, *half_types)
    if dtype not in able:
        names = (other for other in PRECISIONS if getattr(torch, other) in able)
        raise ValueError(
            f"precision {name}: models of this architecture run in {' or '.join(names)}; "
            "choose auto."
        )
    return dtype


def within(tiles: TileSettings, available: int) -> TileSettings:
    """Let tiles take ``available`` bytes, or fewer where the settings say so."""
    return replace(tiles, memory_budget=min(tiles.memory_budget or available, available))


def memory_required(
    restorer: Restorer, inputs: Inputs, target: TargetSize, tiles: TileSettings
) -> int:
    """Estimate the bytes of a run before the model is loaded.

    Then how far tiles must overlap cannot be found yet, which changes this by a few hundredths
    only; nor how far wrapped edges reach, which most models need less of. A mask changes nothing.
    """
    assumed = WRAPPED_MARGIN if any(WRAPPED[restorer.edges]) else 0
    if tiles.mode == "tiled":  # More is refused with them.
        assumed = min(assumed, min(tiles.tile_sides) // 2)
    inputs, tiles = replace(inputs, mask=None), replace(tiles, overlap=tiles.overlap or assumed)
    if target.is_of_model(inputs, restorer.model.scale):
        return restorer.plan_for(inputs, tiles).memory
    return Sized.of_first(restorer, inputs, target, tiles).memory(len(inputs.images))
