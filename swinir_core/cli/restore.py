"""``swinir restore``: files in, restored files out, one at a time."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..checkpoints.models import load_model
from ..errors import ImageError
from ..files import remove_abandoned
from ..image_files.finding import find_images, plan_outputs
from ..image_files.picture import FORMATS, READ_ONLY, Picture
from ..image_files.reading import open_file
from ..image_files.scratch import allocate
from ..image_files.writing import Rows, check_holds, check_writable, write_images
from ..model_names import DEFAULT_MODEL
from ..restoration.restorer import Restorer
from ..restoration.sizing import Sized, TargetSize
from ..restoration.tiles import TileSettings
from ..text import listed, shown
from ..video_files.encoding import Encoding
from .options import UsageError
from .output import report_error, report_warning, sentence, why_not_overwritten
from .processes import join_processes
from .videos import SUFFIXES, is_video, plan_videos, restore_video

SIZES = {"scale": "factor", "longest": "longer side", "megapixels": "megapixels"}
"""Options that set the size of results, and the way of each."""

_FEW_BITS = 14
"""Bits that the levels of a 16-bit picture fit where it is worth asking whether these are all."""


def restore(args: argparse.Namespace) -> int:
    """Restore every file the arguments name; one that fails does not stop the others."""
    tiles, size = tile_settings(args), target_size(args)
    processes = join_processes()
    device = processes.device(args.device)
    plan, failures = processes.agreed(lambda: plan_files(args))
    if not plan:
        return 1 if failures else 0
    failures = failures if processes.is_main else 0
    precision = find_precision(args.precision, device)
    model = load_model(args.model or DEFAULT_MODEL, device, precision)
    restorer = Restorer(
        *(model, device, precision, args.ensemble),
        *(args.edges, args.colors, args.alpha, args.strength),
    )
    for number, (source, target) in processes.own(list(enumerate(plan, start=1))):
        label = f"{number}/{len(plan)} {shown(source.name)}"
        try:
            if is_video(source):
                encoding = Encoding(args.codec, args.crf, args.pixel_format)
                line = restore_video(
                    *(restorer, source, target, tiles, size, encoding),
                    *(args.reduce_flicker, label, processes.is_main),
                )
            else:
                line = restore_file(
                    *(restorer, source, target, tiles, args.overwrite),
                    *(label, processes.is_main, args.white, size),
                )
        except ImageError as error:
            report_error(error)
            failures += 1
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            report_error(f"{shown(source)} was not restored: {sentence(error)}")
            failures += 1
        else:  # Outside the try block: a closed stdout does not make the image a failed one.
            tqdm.write(line)
    failures = sum(processes.gathered(failures))
    if failures and processes.is_main:
        tqdm.write(f"swinir: {failures} failed, see above.", file=sys.stderr)
    return 1 if failures else 0


def prepared(picture: Picture, target: Path, white: int | None) -> tuple[Picture, list[str]]:
    """Apply ``--white``, and leave out an opaque alpha that a JPEG file cannot hold.

    Returns the picture, and what the user should know of it: ends of sentences about its file.
    """
    notes = list(picture.notes)
    if picture.metadata.bit_depth == 16:
        if white is not None:
            picture = picture.with_white(white)
        elif 0 < (bits := picture.brightest().bit_length()) <= _FEW_BITS:
            notes.append(
                f"uses {bits} of its 16 bits; if its white is {2**bits - 1}, pass --white "
                f"{2**bits - 1}, or it is restored as a nearly black picture"
            )
    # An alpha that is not opaque is refused when the file is written.
    if FORMATS.get(target.suffix.lower()) == "JPEG" and picture.shape[2] in (2, 4):
        picture = picture.without_alpha() if picture.is_opaque() else picture
    return picture, notes


def restore_file(
    restorer: Restorer,
    source: Path,
    target: Path,
    tiles: TileSettings,
    overwrite: bool,
    label: str,
    show_progress: bool,
    white: int | None = None,
    size: TargetSize | None = None,
) -> str:
    """Restore one image file by rows: its picture, or its pages or frames one by one. A picture
    larger than the memory is kept beside the target.

    Args:
        label: Name of the progress bar, which a terminal shows where ``show_progress`` is true.
        white: Level of white, where the file has 16 bits.
        size: Of the result, or of every page or frame; by default larger by the model's scale.

    Returns:
        The line to print: names, sizes and seconds.
    """
    started = time.perf_counter()
    file = open_file(source, scratch=target.parent)
    check_holds(target, file.count, file.kind)
    for warning in file.warnings:
        report_warning(f"{shown(source)} {warning}.")
    size = size or TargetSize()
    scale = restorer.model.scale
    targets = [size.of(height, width, scale) for height, width in file.sizes]

    def bands(sized: Sized, name: str) -> Iterator[np.ndarray]:
        disable = None if show_progress else True
        with tqdm(
            total=sized.pixels,
            desc=name,
            unit="px",
            unit_scale=True,
            leave=False,
            disable=disable,
        ) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield from sized.bands(progress)

    noted: set[str] = set()

    def restored(picture: Picture, number: int) -> Rows:
        picture, notes = prepared(picture, target, white)
        for note in notes:
            if note not in noted:
                report_warning(f"{shown(source)} {note}.")
        noted.update(notes)
        sized = Sized(
            *(restorer, picture, size, tiles), allocate=partial(allocate, folder=target.parent)
        )
        shape = (*sized.target, picture.shape[2])
        check_writable(target, shape)
        if number == 1 and sized.is_cut:
            tqdm.write(f"{label}: {sized.summary()}", file=sys.stderr)
        name = f"{label}, {file.kind} {number} of {file.count}" if file.count > 1 else label
        metadata = picture.metadata.resized(picture.shape[:2], sized.target)
        return Rows(bands(sized, name), shape, metadata)

    left_out = write_images(
        target,
        map(restored, file.pictures, range(1, file.count + 1)),
        targets,
        overwrite,
    )
    file_format = FORMATS[target.suffix.lower()]
    if file.is_gif:
        report_warning(f"{shown(source)} is written as {file_format}; GIF holds 256 colours only.")
    if left_out:
        report_warning(f"{shown(target)} lacks what was not kept: {listed(left_out, 20)}.")
    many = f"{file.count} {file.kind}s of " if file.count > 1 else ""
    (height, width), (new_height, new_width) = file.sizes[0], targets[0]
    return (
        f"{shown(source)} ({many}{width} x {height}) -> "
        f"{shown(target)} ({new_width} x {new_height}) "
        f"in {time.perf_counter() - started:.1f} s"
    )


def plan_files(args: argparse.Namespace) -> tuple[list[tuple[Path, Path]], int]:
    """(source, target) of the files that are to be restored, and how many arguments or files
    cannot; each of these is reported. With ``--resume``, a target that exists is a finished one.

    Raises ImageError where the arguments together make no sense.
    """
    found, plan, failures, finished = [], [], 0, 0
    for name in args.inputs:
        suffixes = SUFFIXES if is_video(Path(name)) else [*FORMATS, *READ_ONLY]
        try:
            found += find_images([name], args.output, suffixes)
        except ImageError as error:
            report_error(error)
            failures += 1
    suffix = None if args.format == "same" else f".{args.format}"
    videos = [pair for pair in found if is_video(pair[0])]
    images = [pair for pair in found if not is_video(pair[0])]
    planned = plan_videos(videos, args.output, len(found))
    if images or not videos:
        planned += plan_outputs(images, args.output, suffix)
    for source, target in planned:
        # Not Path.is_file, which raises for a name too long; what is no file is said in its turn.
        if args.overwrite or not os.path.isfile(target):  # noqa: PTH113
            plan.append((source, target))
        elif args.resume and not target.samefile(source):
            finished += 1
        else:
            report_error(why_not_overwritten(source, target))
            failures += 1
    for folder in {target.parent for _, target in plan}:
        remove_abandoned(folder)
    if finished:
        tqdm.write(f"swinir: {finished} finished before, {len(plan)} to go.", file=sys.stderr)
    return plan, failures


def tile_settings(args: argparse.Namespace) -> TileSettings:
    """The settings of ``--tile`` and ``--overlap``. Raises ``UsageError``."""
    try:
        if isinstance(args.tile, str):
            return TileSettings(mode=args.tile, overlap=args.overlap)
        return TileSettings(mode="tiled", tile_size=args.tile, overlap=args.overlap)
    except ValueError as error:
        raise UsageError(f"--tile, --overlap: {error}.") from error


def target_size(args: argparse.Namespace) -> TargetSize:
    """The size of ``--scale``, ``--longest`` or ``--megapixels``."""
    for option, way in SIZES.items():
        if (value := getattr(args, option)) is not None:
            return TargetSize(way, value)
    return TargetSize()


def find_precision(name: str, device: str) -> torch.dtype:
    """The type of ``--precision NAME``; ``auto`` is a half precision on CUDA, else float32."""
    if name != "auto":
        return getattr(torch, name)
    if not device.startswith("cuda"):
        return torch.float32
    major, _ = torch.cuda.get_device_capability(device)
    return torch.bfloat16 if major >= 8 else torch.float16
