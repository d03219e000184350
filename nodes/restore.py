"""The node that restores images."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..swinir_core import Restorer, TileSettings
from . import host
from .runnable import runnable
from .tile_settings import TileSettingsType


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
                TileSettingsType.Input(
                    "tile_settings",
                    optional=True,
                    tooltip=(
                        "Connect SwinIR Tile Settings only to change when and how large images "
                        "are cut; without it the memory decides."
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
        cls, upscale_model: Any, image: Tensor, tile_settings: TileSettings | None = None
    ) -> io.NodeOutput:
        run = runnable(upscale_model)
        tiles = tile_settings or TileSettings()
        device = run.patcher.load_device
        restorer = Restorer(run.model, device, torch.float32)

        # Anything may have been evicted since the last run, so the model is requested every time.
        host.load(run.patcher, memory_required(restorer, image, tiles, host.total_memory(device)))
        run.take_weights()

        tiles = replace(tiles, memory_budget=host.free_memory(run.patcher))
        batch, height, width, _ = image.shape
        logging.info("SwinIR Restore: %s", restorer.plan(height, width, tiles, batch))
        restored = restorer(
            image,
            tiles,
            progress=host.progress_bar().update_absolute,
            cancelled=host.interrupted,
        )
        return io.NodeOutput(host.to_intermediate(restored))


def memory_required(restorer: Restorer, image: Tensor, tiles: TileSettings, total: int) -> int:
    """Bytes that what is run at once needs of ``total``. Before it is loaded the model cannot say
    how far tiles overlap, which changes this by a few hundredths only."""
    batch, height, width, _ = image.shape
    tiles = replace(tiles, memory_budget=total, overlap=tiles.overlap or 0)
    return restorer.plan(height, width, tiles, batch).bytes
