"""The node that loads a folder of pictures."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..swinir_core.errors import ImageError
from ..swinir_core.picture_folders.listing import fingerprint, names_of
from ..swinir_core.text import listed
from . import host
from .folders import Outcome, find_pictures, folder_input


class SwinIRLoadFolder(io.ComfyNode):
    """Pictures of a folder and their names, as lists that the host hands on one by one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRLoadFolder",
            display_name="SwinIR Load Folder",
            category="image",
            description=(
                "Loads the pictures of a folder, of any sizes, with their names, for workflows of "
                "your own: every node behind it runs once for each picture. To restore a folder "
                "of hundreds, use Upscale or Restore Folder (SwinIR), which holds one at a time."
            ),
            search_aliases=["swinir", "load images", "image list", "batch", "directory"],
            inputs=[
                folder_input(),
                io.Int.Input(
                    "at_once",
                    default=0,
                    min=0,
                    max=100_000,
                    optional=True,
                    tooltip=(
                        "How many pictures are loaded, 0 for all. All of them and all results are "
                        "in memory at once: lower it where that is too much, and take the rest by "
                        "part."
                    ),
                ),
                io.Int.Input(
                    "part",
                    default=0,
                    min=0,
                    max=100_000,
                    optional=True,
                    tooltip=(
                        "Which pictures are loaded where at_once is not 0: part 0 is the first so "
                        "many, part 1 the next. Connect an Int node that increments and queue as "
                        "many runs as there are parts."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    is_output_list=True,
                    tooltip=(
                        "The pictures, sorted by name, upright, with alpha where the file has it."
                    ),
                ),
                io.String.Output(
                    display_name="names",
                    is_output_list=True,
                    tooltip=(
                        "The names of the files without suffix. Connect them to SwinIR Save Folder."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.plain_errors
    def execute(cls, folder: str, at_once: int = 0, part: int = 0) -> io.NodeOutput:
        from ..swinir_core.devices import free_memory
        from ..swinir_core.picture_folders.reading import bytes_in_memory, read_picture

        paths = find_pictures(folder)
        chosen = list(zip(paths, names_of(paths), strict=True))
        if at_once:
            chosen = chosen[part * at_once :][:at_once]
        if not chosen:
            raise ValueError(
                f"part: {folder} has {len(paths)} pictures, which are parts 0 to "
                f"{(len(paths) - 1) // at_once} of {at_once}, got {part}."
            )
        needed = sum(bytes_in_memory(path) for path, _ in chosen)
        free = free_memory(torch.device("cpu"))
        if needed > free:
            raise MemoryError(
                f"{len(chosen)} pictures take {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} "
                "GB are free; lower at_once and load them in parts, or use Upscale or Restore "
                "Folder (SwinIR)."
            )
        progress, outcome = host.Progress(), Outcome(cls)
        images, names = [], []
        for number, (path, name) in enumerate(chosen, 1):
            host.interrupted()
            try:
                pixels = torch.from_numpy(read_picture(path).pixels)
            except ImageError as error:
                outcome.failed(error)
            else:
                images.append(host.to_intermediate(pixels[None]))
                names.append(name)
            progress.advance(number, len(chosen))
        if not images:
            raise ImageError(f"no picture could be read: {listed(outcome.failures)}")
        outcome.show(f"{len(images)} of {len(paths)} pictures loaded from {folder}")
        return io.NodeOutput(images, names)

    @classmethod
    def fingerprint_inputs(cls, folder: str | None, **_: object) -> str | None:
        """Names, sizes and times of the files, so that the host loads a changed folder again.

        None where another node is going to give the name of the folder.
        """
        return None if folder is None else fingerprint(find_pictures(folder))
