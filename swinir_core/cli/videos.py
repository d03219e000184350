"""Video files in ``swinir restore``: restored a few frames at a time, with their sound."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from ..errors import ImageError, WriteError
from ..files import replacing
from ..image_files.finding import plan_outputs
from ..image_files.picture import FORMATS
from ..restoration.inputs import check_inputs
from ..restoration.restorer import Restorer, most_together
from ..restoration.sizing import Held, Sized, TargetSize, restore_to_size
from ..restoration.tiles import TileSettings
from ..text import shown
from ..video_files.encoding import Encoding
from ..video_files.flicker import Steadier
from .output import report_warning

if TYPE_CHECKING:
    from ..video_files.reading import Frame, Video

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts")
"""Suffixes, in lower case, of the files that are taken for videos where they are named."""


def is_video(path: Path) -> bool:
    """Tell by its name whether a file is a video."""
    return path.suffix.lower() in SUFFIXES


def plan_videos(
    found: Sequence[tuple[Path, Path]], output: Path, files: int
) -> list[tuple[Path, Path]]:
    """Pair every video with the MP4 file its result is written to, as ``plan_outputs`` does for
    images; ``files`` are to be written in all. Raises ``ImageError`` as it does."""
    if not found:
        return []
    if output.is_dir() or output.suffix.lower() not in (*SUFFIXES, *FORMATS):
        return plan_outputs(found, output, ".mp4")
    if output.suffix.lower() != ".mp4":
        raise ImageError(f"{output}: videos are written as MP4, so the name must end in .mp4.")
    if files > 1:
        raise ImageError(f"{output} is one file, but there are {files} files to write.")
    return [(source, output) for source, _ in found]


def restore_video(
    restorer: Restorer,
    source: Path,
    target: Path,
    tiles: TileSettings,
    size: TargetSize,
    encoding: Encoding,
    reduce_flicker: bool,
    label: str,
    show_progress: bool,
) -> str:
    """Restore a video file. What is done when the run is stopped becomes a file beside the target,
    whose name has the number of frames.

    Args:
        label: Name of the progress bar, which a terminal shows where ``show_progress`` is true.
        size: Of the result, rounded to what the ``encoding`` takes.
        reduce_flicker: Whether a ``Steadier`` damps it.

    Returns:
        The line to print: names, sizes and seconds.
    """
    try:
        from ..video_files.reading import FileVideo
        from ..video_files.writing import VideoWriter
    except ModuleNotFoundError as error:
        if error.name != "av":
            raise
        raise ImageError(
            f"{shown(source)} is a video, which PyAV reads; install it with pip install av."
        ) from error
    started = time.perf_counter()
    size = replace(size, multiple=encoding.multiple)
    steadier = Steadier()
    with (
        FileVideo(source) as video,
        replacing(target) as part,
        tqdm(
            total=video.count,
            desc=label,
            unit="frame",
            leave=False,
            disable=None if show_progress else True,
        ) as bar,
    ):
        writer = VideoWriter(part, video, encoding)
        try:
            with writer:
                for frame, pixels in _restored(restorer, video, size, tiles, bar):
                    if reduce_flicker:
                        pixels = steadier.add(frame.pixels, pixels)
                    writer.add(pixels, frame)
        except WriteError as error:
            raise WriteError(str(error).replace(str(part), str(target))) from error
        except BaseException:
            if writer.kept:
                kept = target.with_stem(f"{target.stem}-first-{writer.written}-frames")
                part.replace(kept)
                report_warning(f"{shown(source)} was stopped; what is done is in {shown(kept)}.")
            raise
        for note in (*video.notes, *writer.notes):
            report_warning(f"{shown(source)}: {note}.")
        height, width = size.of(video.height, video.width, restorer.model.scale)
    return (
        f"{shown(source)} ({writer.written} frames of {video.width} x {video.height}) -> "
        f"{shown(target)} ({width} x {height}) in {time.perf_counter() - started:.1f} s"
    )


def _restored(
    restorer: Restorer, video: Video, size: TargetSize, tiles: TileSettings, bar: tqdm
) -> Iterator[tuple[Frame, Tensor]]:
    """Yield the frames of a video, each with its result (h, w, 3)."""
    frames, done = video.frames(), 0
    of_one = Sized(restorer, Held((video.height, video.width, 3)), size, tiles)
    at_once = of_one.together(most_together(video.height, video.width))

    def advance(pixels: int, of: int) -> None:
        bar.n = round(done + len(batch) * pixels / of, 1)
        bar.update(0)

    while batch := list(islice(frames, at_once)):
        inputs = check_inputs(torch.stack([frame.pixels for frame in batch]))
        results = restore_to_size(restorer, inputs, size, tiles, advance)
        yield from zip(batch, results, strict=True)
        done += len(batch)
