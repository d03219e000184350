"""The node that writes a loaded SwinIR to a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..swinir_core.errors import CheckpointError
from ..swinir_core.files import remove_abandoned
from ..swinir_core.model_names import check_name
from . import host

if TYPE_CHECKING:
    from ..swinir_core import Checkpoint

PRECISIONS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
SUFFIX = ".safetensors"


class SwinIRSaveModel(io.ComfyNode):
    """Saves any SwinIR as ``.safetensors``, with its configuration, under a name that is free."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRSaveModel",
            display_name="Save SwinIR Model",
            category=host.loader_category(),
            description=(
                "Saves a loaded SwinIR as .safetensors in models/swinir, with its configuration "
                "in the file. Turns .pth files into small ones that run no code when Load SwinIR "
                "Model reads them; the host's own Load Upscale Model does not know them."
            ),
            search_aliases=["swinir", "convert model", "export", "safetensors", "half precision"],
            is_output_node=True,
            inputs=[
                io.UpscaleModel.Input(
                    "upscale_model",
                    tooltip=(
                        "A SwinIR from Load SwinIR Model or from the host's own Load Upscale Model."
                    ),
                ),
                io.String.Input(
                    "name",
                    default="my_swinir",
                    optional=True,
                    tooltip=(
                        "Name of the file, which may lie in subfolders such as tests/my_swinir. "
                        "Where the name is taken, _2, _3 and so on is put behind it: nothing is "
                        "ever overwritten."
                    ),
                ),
                io.Combo.Input(
                    "precision",
                    options=list(PRECISIONS),
                    default="float16",
                    optional=True,
                    tooltip=(
                        "How weights are stored. float16 halves the file and costs nothing one "
                        "can see; choose float32 to keep every bit, or bfloat16 where weights are "
                        "too large for float16."
                    ),
                ),
            ],
            outputs=[
                io.String.Output(
                    display_name="model_name",
                    tooltip="The name that Load SwinIR Model lists the file by, after a refresh.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.plain_errors
    def execute(
        cls, upscale_model: Any, name: str = "my_swinir", precision: str = "float16"
    ) -> io.NodeOutput:
        from .running.runnable import to_checkpoint

        host.check_choice("precision", precision, PRECISIONS)
        path = free_path(name)
        refusal = "Save SwinIR Model saves only SwinIR models; this one"
        write(path, to_checkpoint(upscale_model, refusal), precision)
        model_name = path.relative_to(host.save_folder()).as_posix()
        shown = Path("models", host.save_folder().name, model_name).as_posix()
        text = f"{shown},\n{path.stat().st_size / 1e6:.1f} MB in {precision}"
        host.show_text(cls, text)
        # For whoever runs the graph by the API.
        found = {"text": [text], "model_name": [model_name], "path": [str(path)]}
        return io.NodeOutput(model_name, ui=found)


def free_path(name: str) -> Path:
    """A path for ``name``, numbered where needed, that no file has in any folder of models.

    The loader would find the file of another folder in its place. Raises ``ValueError`` for what is
    not a name.
    """
    wanted, number = check_name(name), 1
    while True:
        numbered = wanted.name if number == 1 else f"{wanted.name}_{number}"
        inside = Path(wanted.parent, numbered + SUFFIX)
        path = host.save_folder() / inside
        taken = path.exists() or path.is_symlink()  # A link that leads nowhere as yet.
        if not taken and not host.is_model_file(str(inside)):
            return path
        number += 1


def write(path: Path, checkpoint: Checkpoint, precision: str) -> None:
    """Write the file, and the folders it lies in. Raises ``CheckpointError`` and ``WriteError``."""
    from ..swinir_core import write_checkpoint

    remove_abandoned(path.parent)
    try:
        write_checkpoint(path, checkpoint, PRECISIONS[precision])
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} Choose bfloat16 or float32, unless the model is damaged already."
        ) from error
