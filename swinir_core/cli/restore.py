"""``swinir restore``: files in, restored files out, one at a time."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from ..checkpoints.models import DEFAULT_MODEL, load_model
from ..errors import ImageError
from ..files import remove_abandoned
from ..image_files.finding import find_images, plan_outputs
from ..image_files.picture import FORMATS
from ..image_files.reading import open_image
from ..image_files.writing import check_writable, write_image
from ..restoration.restorer import Restorer
from ..restoration.streaming import Stream
from ..restoration.tiles import TileSettings
from ..text import shown
from .options import UsageError
from .output import report_error, sentence, why_not_overwritten
from .processes import join_processes

_FEW_BITS = 14
"""Bits that the levels of a 16-bit picture fit where it is worth asking whether these are all."""


def restore(args: argparse.Namespace) -> int:
    """Restore every image the arguments name; a file that fails does not stop the others."""
    tiles = tile_settings(args)
    processes = join_processes()
    device = processes.device(args.device)
    plan, failures = processes.agreed(lambda: plan_files(args))
    if not plan:
        return 1 if failures else 0
    failures = failures if processes.is_main else 0
    precision = find_precision(args.precision, device)
    model = load_model(args.model or DEFAULT_MODEL, device, precision)
    restorer = Restorer(
        *(model, device, precision, args.ensemble), args.edges, args.colors, args.alpha
    )
    for number, (source, target) in processes.own(list(enumerate(plan, start=1))):
        label = f"{number}/{len(plan)} {shown(source.name)}"
        try:
            line = restore_file(
                restorer,
                source,
                target,
                tiles,
                args.overwrite,
                label,
                processes.is_main,
                args.white,
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


def restore_file(
    restorer: Restorer,
    source: Path,
    target: Path,
    tiles: TileSettings,
    overwrite: bool,
    label: str,
    show_progress: bool,
    white: int | None = None,
) -> str:
    """Restore one image file by rows. A picture larger than the memory is kept beside the target.

    Args:
        label: Name of the progress bar, which a terminal shows where ``show_progress`` is true.
        white: Level of white, where the file has 16 bits.

    Returns:
        The line to print: names, sizes and seconds.
    """
    started = time.perf_counter()
    picture = open_image(source, scratch=target.parent)
    notes = list(picture.notes)
    if picture.metadata.bit_depth == 16:
        if white is not None:
            picture = picture.with_white(white)
        elif 0 < (bits := picture.brightest().bit_length()) <= _FEW_BITS:
            notes.append(
                f"uses {bits} of its 16 bits; if its white is {2**bits - 1}, pass --white "
                f"{2**bits - 1}, or it is restored as a nearly black picture"
            )
    if FORMATS.get(target.suffix.lower()) == "JPEG" and picture.shape[2] in (2, 4):
        # What is not opaque is refused below.
        picture = picture.without_alpha() if picture.is_opaque() else picture
    for note in notes:
        tqdm.write(f"swinir: warning: {shown(source)} {note}.", file=sys.stderr)
    height, width, channels = picture.shape
    scale = restorer.model.scale
    shape = (height * scale, width * scale, channels)
    check_writable(target, shape)
    stream = Stream(restorer, picture, tiles)
    plan = stream.plan
    if len(plan.tiles) > 1:
        tqdm.write(f"{label}: {plan.summary()}", file=sys.stderr)
    disable = None if show_progress else True
    with tqdm(
        total=plan.pixels, desc=label, unit="px", unit_scale=True, leave=False, disable=disable
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        write_image(target, stream.bands(progress), shape, picture.metadata, overwrite)
    return (
        f"{shown(source)} ({width} x {height}) -> "
        f"{shown(target)} ({width * scale} x {height * scale}) "
        f"in {time.perf_counter() - started:.1f} s"
    )


def plan_files(args: argparse.Namespace) -> tuple[list[tuple[Path, Path]], int]:
    """(source, target) of the images that are to be restored, and how many arguments or images
    cannot; each of these is reported. With ``--resume``, a target that exists is a finished one.

    Raises ImageError where the arguments together make no sense.
    """
    found, plan, failures, finished = [], [], 0, 0
    for name in args.inputs:
        try:
            found += find_images([name], args.output)
        except ImageError as error:
            report_error(error)
            failures += 1
    suffix = None if args.format == "same" else f".{args.format}"
    for source, target in plan_outputs(found, args.output, suffix):
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


def find_precision(name: str, device: str) -> torch.dtype:
    """The type of ``--precision NAME``; ``auto`` is a half precision on CUDA, else float32."""
    if name != "auto":
        return getattr(torch, name)
    if not device.startswith("cuda"):
        return torch.float32
    major, _ = torch.cuda.get_device_capability(device)
    return torch.bfloat16 if major >= 8 else torch.float16
