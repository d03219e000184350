"""The node that restores a folder of pictures, one at a time."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io

from ..swinir_core.errors import ImageError
from ..swinir_core.picture_folders.listing import fingerprint, names_of
from ..swinir_core.text import shown
from . import host
from .folders import Outcome, Saving, find_pictures, folder_input, saving_inputs
from .restore import SwinIRRestore

NOT_OF_A_FOLDER = ("upscale_model", "image", "mask")


class SwinIRRestoreFolder(io.ComfyNode):
    """Reads, restores and writes every picture of a folder; one is in memory at a time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRRestoreFolder",
            display_name="Upscale or Restore Folder (SwinIR)",
            category="image/upscaling",
            description=(
                "Enlarges, denoises or deblocks all pictures of a folder, of any sizes, and saves "
                "them under their names: one at a time, so that hundreds need no more memory than "
                "the largest."
            ),
            search_aliases=["swinir", "batch upscale", "upscale folder", "directory", "bulk"],
            is_output_node=True,
            inputs=[
                io.UpscaleModel.Input(
                    "upscale_model",
                    tooltip=(
                        "The model to run, from Load SwinIR Model or the host's own Load Upscale "
                        "Model. It decides by how much the pictures are enlarged."
                    ),
                ),
                folder_input(),
                *saving_inputs(),
                *(
                    option
                    for option in SwinIRRestore.define_schema().inputs
                    if option.id not in NOT_OF_A_FOLDER
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.plain_errors
    def execute(
        cls,
        upscale_model: Any,
        folder: str,
        save_in: str = Saving.save_in,
        format: str = Saving.format,
        quality: int = Saving.quality,
        existing: str = Saving.existing,
        **options: Any,
    ) -> io.NodeOutput:
        from ..swinir_core.picture_folders.reading import read_picture
        from .running.restoration import Restoration

        saving = Saving(save_in, format, quality, existing)
        restoration = Restoration(upscale_model, **options)
        paths = find_pictures(folder)
        targets = saving.plan(names_of(paths))
        progress, outcome, written = host.Progress(), Outcome(cls), []
        for number, (path, target) in enumerate(zip(paths, targets, strict=True)):
            host.interrupted()
            progress.begin(number, len(paths))
            if target is not None:
                outcome.show(f"{number + 1} of {len(paths)}: {shown(path.name)}")
                try:
                    pixels, profile = read_picture(path)
                    restored = restoration.run(progress, torch.from_numpy(pixels[None]))
                    saving.write(target, restored[0].numpy(), profile)
                    written.append(target)
                except ImageError as error:
                    outcome.failed(error)
                except MemoryError as error:
                    outcome.failed(MemoryError(f"{shown(path.name)}: {error}"))
            progress.advance(1, 1)
        return outcome.saved(targets, written)

    @classmethod
    def fingerprint_inputs(cls, folder: str | None, **_: object) -> str | None:
        """Names, sizes and times of the files, so that the host restores a changed folder again.

        None where another node is going to give the name of the folder.
        """
        return None if folder is None else fingerprint(find_pictures(folder))
