"""Inputs, checks and reports of the nodes that read and write folders of pictures."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from comfy_api.latest import io

from ..swinir_core.errors import ImageError
from ..swinir_core.files import remove_abandoned
from ..swinir_core.picture_folders.listing import pictures_in, subfolders
from ..swinir_core.picture_folders.writing import EXISTING, FORMATS, plan_targets, write_picture
from ..swinir_core.text import listed
from . import host

INPUT = "input"
SAMPLES = "bundled/samples"
MOST_SHOWN = 16
"""Pictures that a node shows; a page that shows hundreds of large ones stands still."""


def folder_input() -> Any:
    """The input that chooses a folder; the host refuses one that is not listed."""
    return io.Combo.Input(
        "folder",
        options=folder_names(),
        tooltip=(
            "The folder with the pictures: the input folder of ComfyUI, a folder in it, or the "
            "samples of this pack. Copy your pictures into a folder there and press R to see it in "
            "the list. Folders inside the chosen one are left out."
        ),
    )


def saving_inputs() -> list[Any]:
    """The inputs that say where and how pictures are saved."""
    return [
        io.String.Input(
            "save_in",
            default="restored",
            optional=True,
            tooltip=(
                "The folder for the results, inside the output folder of ComfyUI; it is made where "
                "it is missing. Change it to keep the results of different models apart."
            ),
        ),
        io.Combo.Input(
            "format",
            options=list(FORMATS),
            default="png",
            optional=True,
            tooltip=(
                "The kind of the files. png loses nothing. Choose jpg or webp for files of a tenth "
                "of the size; jpg cannot hold transparency."
            ),
        ),
        io.Int.Input(
            "quality",
            default=95,
            min=1,
            max=100,
            optional=True,
            tooltip=(
                "Quality of jpg and webp files, without effect on png. Lower it for smaller files; "
                "below 80 one begins to see it."
            ),
        ),
        io.Combo.Input(
            "existing",
            options=list(EXISTING),
            default=EXISTING[0],
            optional=True,
            tooltip=(
                "What happens where a file of that name exists. number keeps it and puts _2 behind "
                "the new name. Choose skip to go on where a run was cancelled, replace to write "
                "over it, or stop to do nothing at all."
            ),
        ),
    ]


def folder_names() -> list[str]:
    """Names of the folders to choose from, with slashes on every system."""
    return [INPUT, *(f"{INPUT}/{name}" for name in subfolders(host.input_folder())), SAMPLES]


def find_pictures(folder: str) -> list[Path]:
    """The pictures in the folder of a name, which comes from the outside: only listed ones lead to
    a folder. Raises ``FileNotFoundError`` for others, and where there is no picture."""
    from ..swinir_core.degradation.samples import FOLDER

    if folder not in folder_names():
        raise FileNotFoundError(f"there is no folder {folder!r}; press R to read the list again.")
    inside = folder.removeprefix(INPUT).lstrip("/")
    pictures = pictures_in(FOLDER if folder == SAMPLES else host.input_folder() / inside)
    if not pictures:
        raise FileNotFoundError(
            f"there is no picture in the folder {folder}; copy some into it, or choose another "
            "folder."
        )
    return pictures


@dataclass(frozen=True)
class Saving:
    """The values of ``saving_inputs``. A wrong one raises ``ValueError`` naming it."""

    save_in: str = "restored"
    format: str = "png"
    quality: int = 95
    existing: str = EXISTING[0]

    def __post_init__(self) -> None:
        host.check_choice("format", self.format, FORMATS)
        host.check_choice("existing", self.existing, EXISTING)

    def plan(self, names: Iterable[str]) -> list[Path | None]:
        """Find the files of results, as ``plan_targets`` does; remove what killed runs left."""
        root = host.output_folder()
        targets = plan_targets(root, self.save_in, names, self.format, self.existing)
        for folder in {path.parent for path in targets if path}:
            remove_abandoned(folder)
        return targets

    def write(self, path: Path, pixels: np.ndarray, profile: bytes | None = None) -> None:
        """Write a picture, as ``write_picture`` does."""
        write_picture(path, pixels, self.quality, profile)


class Outcome:
    """Report on the pictures of a folder; failures are in the console when they happen."""

    def __init__(self, node: type[io.ComfyNode]) -> None:
        self._node = node
        self.failures = list[str]()

    def failed(self, error: Exception) -> None:
        """Note a picture that was left out."""
        self.failures.append(str(error).rstrip("."))
        logging.warning("SwinIR left a picture out: %s", error)

    def show(self, done: str) -> str:
        """Write on the node what was ``done``, and what was left out; return the text."""
        failures = f" Left out: {listed(self.failures)}." if self.failures else ""
        host.show_text(self._node, text := f"{done}.{failures}")
        return text

    def saved(self, targets: Sequence[Path | None], written: Sequence[Path]) -> io.NodeOutput:
        """The output of a node that saves, with the pictures that it shows.

        Raises ``ImageError`` where all failed; pictures that are skipped have not.
        """
        if self.failures and not written and None not in targets:
            raise ImageError(f"nothing could be written: {listed(self.failures)}.")
        root = host.output_folder()
        skipped = targets.count(None)
        done = f"{len(written)} of {len(targets)} pictures written"
        if written:
            done += f" to {(root.name / written[0].parent.relative_to(root)).as_posix()}"
        if skipped:
            done += f", {skipped} skipped that exist"
        images = [
            {
                "filename": path.name,
                "subfolder": path.parent.relative_to(root).as_posix(),
                "type": "output",
            }
            for path in written[:MOST_SHOWN]
        ]
        return io.NodeOutput(ui={"images": images, "text": [self.show(done)]})
