"""The node that saves pictures under their names."""

from __future__ import annotations

from comfy_api.latest import io
from torch import Tensor

from ..swinir_core.errors import ImageError
from . import host
from .folders import Outcome, Saving, saving_inputs


class SwinIRSaveFolder(io.ComfyNode):
    """Writes each picture of a list, whole or not at all, into a folder of the host's output."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRSaveFolder",
            display_name="SwinIR Save Folder",
            category="image",
            description=(
                "Saves pictures under their names into a folder inside the output folder. Nothing "
                "is overwritten unless you ask for it, and a file is there whole or not at all."
            ),
            search_aliases=["swinir", "save images", "keep file name", "batch", "directory"],
            is_output_node=True,
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip=(
                        "The pictures, such as those of SwinIR Load Folder after other nodes. Of a "
                        "batch each becomes a file, with _2, _3 and so on behind the name."
                    ),
                ),
                io.String.Input(
                    "names",
                    default="picture",
                    optional=True,
                    tooltip=(
                        "The name of each file. Connect names of SwinIR Load Folder to keep those "
                        "of the originals; one name for all is numbered."
                    ),
                ),
                *saving_inputs(),
            ],
            outputs=[],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.plain_errors
    def execute(
        cls, images: list[Tensor], names: list[str] | None = None, **settings: list
    ) -> io.NodeOutput:
        saving = Saving(**{name: values[0] for name, values in settings.items()})
        names = names or ["picture"]
        pictures, wanted = list[Tensor](), list[str]()
        for number, batch in enumerate(images):
            pictures += host.in_three_channels(batch)
            wanted += [names[min(number, len(names) - 1)]] * len(batch)
        targets = saving.plan(wanted)
        progress, outcome, written = host.Progress(), Outcome(cls), []
        for number, (picture, target) in enumerate(zip(pictures, targets, strict=True), 1):
            host.interrupted()
            if target is not None:
                try:
                    saving.write(target, picture.float().cpu().numpy())
                    written.append(target)
                except ImageError as error:
                    outcome.failed(error)
            progress.advance(number, len(pictures))
        return outcome.saved(targets, written)
