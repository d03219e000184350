"""``swinir restore``: files in, restored files out, one at a time."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ImageError, SentenceError
from ..file_names import shown

if TYPE_CHECKING:
    import torch

    from ..restoration.restorer import Restorer
    from ..restoration.tiles import TileSettings
    from .processes import Processes

PRECISIONS = ("float32", "bfloat16", "float16")
_LONGEST_SENTENCE = 2000
_EXAMPLES = """\
examples:
  swinir restore photo.jpg -o restored/
  swinir restore photo.jpg -o photo_x2.png
  swinir restore holiday/ "scans/*.tif" -o restored/ --model models/my_swinir.pth
  torchrun --nproc_per_node 2 -m swinir_core restore holiday/ -o restored/ --resume
"""


class UsageError(SentenceError, ValueError):
    """An argument cannot be used as it is; the message names it and says what can."""


def add_restore(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "restore",
        help="restore image files",
        description=(
            "Restore PNG, JPEG, WebP and TIFF files, one at a time; several processes that "
            "torchrun or accelerate launch has started divide them among themselves. Results "
            "written as PNG or TIFF may be larger than the memory."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add(
        "inputs",
        metavar="IN",
        type=not_empty,
        nargs="+",
        help="image, folder (searched to any depth) or pattern",
    )
    add(
        *("-o", "--output"),
        metavar="OUT",
        type=path_argument,
        required=True,
        help="folder for the results; or a file name, for one image",
    )
    add(
        "--model",
        type=not_empty,
        help="model file, or the name of a bundled model (default: see swinir models)",
    )
    add(
        "--tile",
        type=_tile,
        default="auto",
        metavar="auto|whole|N",
        help="cut only what does not fit the memory, never, or into squares of N pixels",
    )
    add(
        "--overlap",
        type=int,
        metavar="N",
        help="pixels that neighbouring tiles share (default: what the model needs)",
    )
    add("--device", type=_device, default="auto", help="auto, cpu, cuda, cuda:1, xpu, mps ...")
    add("--precision", choices=("auto", *PRECISIONS), default="auto", help="of the arithmetic")
    add(
        "--format",
        choices=("same", "png", "jpg", "webp", "tiff"),
        default="same",
        help="of results in a folder (default: that of each image)",
    )
    add(
        "--ensemble",
        action="store_true",
        help="mean over eight flips and turns: a little better, eight times as long",
    )
    existing = command.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace files that exist")
    existing.add_argument(
        "--resume",
        action="store_true",
        help="leave out images whose results exist, so that a run that was stopped goes on",
    )
    command.set_defaults(run=restore)


def restore(args: argparse.Namespace) -> int:
    """Restore every image the arguments name; a file that fails does not stop the others."""
    from tqdm import tqdm

    from ..checkpoints.models import DEFAULT_MODEL, load_model
    from ..restoration.restorer import Restorer
    from .processes import join_processes

    tiles = tile_settings(args)
    processes = join_processes()
    device = find_own_device(args.device, processes)
    plan, failures = processes.agreed(lambda: plan_files(args))
    if not plan:
        return 1 if failures else 0
    failures = failures if processes.is_main else 0
    precision = find_precision(args.precision, device)
    model = load_model(args.model or DEFAULT_MODEL, device, precision)
    restorer = Restorer(model, device, precision, args.ensemble)
    for number, (source, target) in processes.share(list(enumerate(plan, start=1))):
        label = f"{number}/{len(plan)} {shown(source.name)}"
        try:
            line = restore_file(
                restorer, source, target, tiles, args.overwrite, label, processes.is_main
            )
        except ImageError as error:
            report_error(error)
            failures += 1
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            report_error(f"{shown(source)} was not restored: {sentence(error)}")
            failures += 1
        else:  # Whoever does not listen has their pictures all the same.
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
) -> str:
    """Restore one image file by rows. A picture larger than the memory is kept beside the target.

    Args:
        label: name of the progress bar, which a terminal shows where ``show_progress`` is true.

    Returns:
        The line to print: names, sizes and seconds.
    """
    from tqdm import tqdm

    from ..image_files.reading import open_image
    from ..image_files.writing import check_writable, write_image
    from ..restoration.streaming import Stream

    started = time.perf_counter()
    picture = open_image(source, scratch=target.parent)
    height, width, channels = picture.shape
    scale = restorer.model.scale
    shape = (height * scale, width * scale, channels)
    check_writable(target, shape)
    stream = Stream(restorer, picture, tiles)
    plan = stream.plan
    if plan.tile_count > 1:
        tqdm.write(f"{label}: {plan}", file=sys.stderr)
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
    from tqdm import tqdm

    from ..files import remove_abandoned
    from ..image_files.finding import find_images, plan_outputs

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
    """The tiles that ``--tile`` and ``--overlap`` ask for."""
    from ..restoration.tiles import TileSettings

    try:
        if isinstance(args.tile, str):
            return TileSettings(mode=args.tile, overlap=args.overlap)
        return TileSettings(mode="tiled", tile_size=args.tile, overlap=args.overlap)
    except ValueError as error:
        raise UsageError(f"--tile, --overlap: {error}.") from error


def find_device(name: str) -> str:
    """The device ``--device`` asks for, the best one there is for ``auto``."""
    import torch

    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    xpu = [f"xpu:{i}" for i in range(torch.xpu.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    present = [*cuda, *xpu, *mps, "cpu"]
    found = [device for device in present if name in ("auto", device, device.partition(":")[0])]
    if not found:
        raise UsageError(f"--device {name}: this machine has only {', '.join(present)}.")
    return found[0]


def find_own_device(name: str, processes: Processes) -> str:
    """The device ``--device`` asks for where several processes may each take their own."""
    if processes.count > 1 and ":" in name:
        raise UsageError(f"--device {name}: each process takes a device of its own; leave it out.")
    return processes.device(find_device(name))


def find_precision(name: str, device: str) -> torch.dtype | None:
    """The arithmetic ``--precision`` asks for; ``auto`` is half on CUDA."""
    import torch

    if name != "auto" or not device.startswith("cuda"):
        return dtype_named("float32" if name == "auto" else name)
    major, _ = torch.cuda.get_device_capability(device)
    return torch.bfloat16 if major >= 8 else torch.float16


def dtype_named(name: str) -> torch.dtype | None:
    """The type of that name in torch; None for ``same``."""
    import torch

    return None if name == "same" else getattr(torch, name)


def not_empty(text: str) -> str:
    """Argument type: any text but none, which pathlib takes for the current folder."""
    if not text:
        raise argparse.ArgumentTypeError('must name something, not ""')
    return text


def path_argument(text: str) -> Path:
    return Path(not_empty(text))


def _tile(text: str) -> str | int:
    if text in ("auto", "whole"):
        return text
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be auto, whole or a number of pixels, not {text!r}")
    return int(text)


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", text):
        raise argparse.ArgumentTypeError(
            f"must be auto, cpu, cuda, cuda:1, xpu or mps, not {text!r}"
        )
    return text


def why_not_overwritten(source: Path, target: Path) -> str:
    if target.samefile(source):
        return f"{shown(source)} would be replaced by its own result; --overwrite allows that."
    return f"{shown(target)} already exists; pass --overwrite to replace it."


def report_error(error: Exception | str) -> None:
    from tqdm import tqdm

    tqdm.write(f"swinir: error: {sentence(error)}", file=sys.stderr)


def sentence(error: Exception | str) -> str:
    """The first line of what went wrong, as ``shown``: some exceptions have none and some have
    fifty, and libraries quote in them what a file holds."""
    lines = str(error).strip().splitlines()
    return shown(lines[0], _LONGEST_SENTENCE) if lines else f"{type(error).__name__}."
