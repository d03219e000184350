"""The node that restores images."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..swinir_core import Restorer, TileSettings
from ..swinir_core.restoration.execution import Piece
from ..swinir_core.restoration.masking import fit
from ..swinir_core.restoration.preview import Preview
from ..swinir_core.restoration.restorer import check_images, checked_mask
from . import host
from .runnable import Runnable, runnable
from .tile_settings import TileSettingsType

PRECISIONS = {
    "auto": None,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


class SwinIRRestore(io.ComfyNode):
    """Runs an ``UPSCALE_MODEL`` over images, whole where they fit and in tiles where not."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRRestore",
            display_name="SwinIR Restore",
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
                        "enlarged along; all else is restored by the model."
                    ),
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="auto",
                    optional=True,
                    tooltip=(
                        "auto computes in half precision on graphics cards made for it and in "
                        "float32 everywhere else. float32 is exact and takes the most memory. "
                        "Models of other architectures always run in float32."
                    ),
                ),
                io.Boolean.Input(
                    "ensemble",
                    default=False,
                    optional=True,
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
            ],
            outputs=[
                io.Image.Output(
                    tooltip="The restored images, larger by the model's scale.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        upscale_model: Any,
        image: Tensor,
        precision: str = "auto",
        ensemble: bool = False,
        tile_settings: TileSettings | None = None,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        check_images(image)
        batch, height, width, channels = image.shape
        if mask is not None:
            mask = checked_mask(fit(mask, height, width), image)
        run = runnable(upscale_model)
        tiles = tile_settings or TileSettings()
        device = run.patcher.load_device
        restorer = Restorer(run.model, device, find_precision(precision, run, device), ensemble)

        # Anything may have been evicted since the last run, so the model is requested every time.
        host.load(run.patcher, memory_required(restorer, image, tiles, host.total_memory(device)))
        run.take_weights()

        free = host.free_memory(run.patcher)
        tiles = replace(tiles, memory_budget=min(tiles.memory_budget or free, free))
        forecast = restorer.plan(height, width, tiles, batch, mask=mask, channels=channels)
        logging.info("SwinIR Restore%s: %s", " in eight ways" * ensemble, forecast)
        progress, preview = host.Progress(), Preview()

        def finished(piece: Piece) -> None:
            preview.add(piece)
            if progress.wants_picture():
                progress.show(preview.picture())

        restored = restorer(image, tiles, progress.advance, host.interrupted, finished, mask)
        return io.NodeOutput(host.to_intermediate(restored))


def find_precision(name: str, run: Runnable, device: torch.device) -> torch.dtype:
    """The arithmetic for a choice. Raises ``ValueError`` where there is none of this name, or not
    for this model."""
    host.check_choice("precision", name, PRECISIONS)
    if run.only_float32:
        if name not in ("auto", "float32"):
            raise ValueError(
                f"precision {name}: models of this architecture run in float32; choose auto."
            )
        return torch.float32
    return PRECISIONS[name] or host.fastest_precision(device)


def memory_required(restorer: Restorer, image: Tensor, tiles: TileSettings, total: int) -> int:
    """Bytes that what is run at once needs of ``total``. Before it is loaded the model cannot say
    how far tiles overlap, which changes this by a few hundredths only."""
    batch, height, width, channels = image.shape
    budget = min(tiles.memory_budget or total, total)
    tiles = replace(tiles, memory_budget=budget, overlap=tiles.overlap or 0)
    return restorer.plan(height, width, tiles, batch, channels=channels).bytes
