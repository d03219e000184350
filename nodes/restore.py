"""The node that restores images."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..swinir_core import Restorer, TileSettings
from ..swinir_core.restoration.colors import COLORS
from ..swinir_core.restoration.edges import EDGES
from ..swinir_core.restoration.execution import Job
from ..swinir_core.restoration.image_model import ImageModel
from ..swinir_core.restoration.inputs import Inputs, check_inputs
from ..swinir_core.restoration.planning import RunPlan
from ..swinir_core.restoration.preview import Preview
from ..swinir_core.restoration.sizing import SIZES, Sized, TargetSize, restore_to_size
from ..swinir_core.restoration.transparency import ALPHAS
from . import host
from .runnable import to_runnable
from .tile_settings import TileSettingsType

PRECISIONS = {
    "auto": None,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class SwinIRRestore(io.ComfyNode):
    """Runs an ``UPSCALE_MODEL`` over images, whole where they fit the memory, else in tiles."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRRestore",
            display_name="Upscale or Restore (SwinIR)",
            category="image/upscaling",
            description=(
                "Enlarges, denoises or deblocks images with a SwinIR model: whole images where "
                "they fit the memory, evenly placed tiles where not. Handles batches, gray images "
                "and alpha, and also runs upscale models of other architectures."
            ),
            search_aliases=["swinir", "upscale", "super resolution", "denoise", "enhance", "jpeg"],
            inputs=[
                io.UpscaleModel.Input(
                    "upscale_model",
                    tooltip=(
                        "The model to run, from Load SwinIR Model or the host's own Load Upscale "
                        "Model. It decides by how much the image is enlarged."
                    ),
                ),
                io.Image.Input(
                    "image",
                    tooltip=(
                        "One image or a batch, such as the frames of a video. An alpha channel is "
                        "enlarged along, or restored too as alpha says."
                    ),
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="auto",
                    optional=True,
                    **host.advanced(io.Combo.Input),
                    tooltip=(
                        "auto computes in half precision on graphics cards made for it and in "
                        "float32 everywhere else. float32 is exact and takes the most memory. "
                        "Choose it for models of other architectures too where fine detail has to "
                        "be exact. Those that do not work in half precision run in float32."
                    ),
                ),
                io.Boolean.Input(
                    "ensemble",
                    default=False,
                    optional=True,
                    **host.advanced(io.Boolean.Input),
                    tooltip=(
                        "Restores the image turned and mirrored in all eight ways and takes the "
                        "mean, the paper's self-ensemble: a little better, eight times as long."
                    ),
                ),
                TileSettingsType.Input(
                    "tile_settings",
                    optional=True,
                    tooltip=(
                        "Connect SwinIR Tile Settings only to change when and how large images "
                        "are cut; without it the memory decides."
                    ),
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Restores only where the mask is white; elsewhere the image is kept, "
                        "enlarged plainly by the model's scale. A mask of another size is "
                        "stretched. Tiles that it does not touch are not computed."
                    ),
                ),
                io.Combo.Input(
                    "edges",
                    options=list(EDGES),
                    default=EDGES[0],
                    optional=True,
                    **host.advanced(io.Combo.Input),
                    tooltip=(
                        "What the model sees beyond the edges of the image. network leaves it to "
                        "the model, as the official one does. Choose mirrored where corners or "
                        "borders come out too dark or tinted; it computes 8 pixels more on every "
                        "side. Choose wrapped for seamless textures, wrapped horizontally for "
                        "panoramas: opposite edges then fit together in the result too."
                    ),
                ),
                io.Combo.Input(
                    "colors",
                    options=list(COLORS),
                    default=COLORS[0],
                    optional=True,
                    tooltip=(
                        "model leaves colors as the model gives them. Choose input where it shifts "
                        "them: slow changes of color and brightness are then those of the input, "
                        "and gray pictures stay gray."
                    ),
                ),
                io.Combo.Input(
                    "alpha",
                    options=list(ALPHAS),
                    default=ALPHAS[0],
                    optional=True,
                    **host.advanced(io.Combo.Input),
                    tooltip=(
                        "How an alpha channel becomes as large as the result. enlarged stretches "
                        "it. restored runs the model over it too, which takes up to twice as long: "
                        "sharper outlines and lettering with models for clean pictures; soft "
                        "shadows are better enlarged."
                    ),
                ),
                io.Combo.Input(
                    "size",
                    options=list(SIZES),
                    default=SIZES[0],
                    optional=True,
                    tooltip=(
                        "The size of the result. model enlarges by the model's scale. For any "
                        "other size choose factor, longer side (in pixels) or megapixels and set "
                        "size_value: the model runs as often as that takes, and what is too large "
                        "is shrunk, one image at a time."
                    ),
                ),
                io.Float.Input(
                    "size_value",
                    default=TargetSize().value,
                    min=0.01,
                    max=100_000,
                    step=0.01,
                    optional=True,
                    tooltip=(
                        "The factor, the pixels of the longer side or the megapixels that size "
                        "asks for. Has no effect where size is model."
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip=(
                        "How much of the model's picture is in the result; the rest is the image "
                        "plainly resized. Lower it where the model does too much, such as skin "
                        "that becomes too smooth."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(
                    tooltip=(
                        "The restored images, larger by the model's scale or of the size asked "
                        "for, gray ones in three equal channels."
                    ),
                ),
            ],
        )

    @classmethod
    @host.plain_errors
    def execute(
        cls,
        upscale_model: Any,
        image: Tensor,
        precision: str = "auto",
        mask: Tensor | None = None,
        **options: Any,
    ) -> io.NodeOutput:
        restoration = Restoration(upscale_model, precision, **options)
        restored = restoration.run(host.Progress(), image, mask)
        return io.NodeOutput(host.to_intermediate(in_three_channels(restored)))


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
        size_value: float = TargetSize().value,
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
        return Sized.of_first(self.restorer, inputs, self.target, tiles)

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
            run = partial(restore_to_size, self.restorer, inputs, self.target, plan.tiles)
            return run(advance, host.interrupted, finished_rows)
        return self.restorer.run(inputs, plan, advance, host.interrupted, finished)

    def _load(self, inputs: Inputs) -> None:
        tiles = within(self.tiles, host.total_memory(self.device))
        self.runnable.load(memory_required(self.restorer, inputs, self.target, tiles))


def find_precision(name: str, model: ImageModel, device: torch.device) -> torch.dtype:
    """Return the type to compute in for a choice of precision.

    Raises ``ValueError`` for an unknown choice, and for one that ``model`` does not take.
    """
    host.check_choice("precision", name, PRECISIONS)
    half_types = model.half_types(device)
    dtype = PRECISIONS[name] or host.fastest_precision(device, half_types)
    if dtype not in (torch.float32, *half_types):
        able = (other for other, own in PRECISIONS.items() if own in (torch.float32, *half_types))
        raise ValueError(
            f"precision {name}: models of this architecture run in {' or '.join(able)}; "
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
    only; and a mask changes nothing.
    """
    inputs, tiles = replace(inputs, mask=None), replace(tiles, overlap=tiles.overlap or 0)
    if target.is_of_model(inputs, restorer.model.scale):
        return restorer.plan_for(inputs, tiles).memory
    return Sized.of_first(restorer, inputs, target, tiles).memory(len(inputs.images))


def in_three_channels(images: Tensor) -> Tensor:
    """Make gray images, (B, H, W, 1) or with alpha (B, H, W, 2), ones that the host's own nodes
    show: of three equal channels, and alpha. Others are returned as they are."""
    if images.shape[-1] > 2:
        return images
    return torch.cat([images[..., :1].expand(-1, -1, -1, 3), images[..., 1:]], -1)
