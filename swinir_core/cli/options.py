"""The parser of the ``swinir`` command: the options of every command and their types.

Neither this module nor ``main`` imports torch: help and mistyped options answer at once.
"""

from __future__ import annotations

import argparse
import inspect
import math
import re
from pathlib import Path
from typing import Any

from ..choices import ALPHAS, COLORS, EDGES, MEAN_NAMES, PRECISIONS, RANGES
from ..errors import UserFacingError, WriteError
from ..files import check_target
from ..video_files.encoding import CODECS, PIXEL_FORMATS, Encoding

STDOUT = "-"


class UsageError(UserFacingError, ValueError):
    """An argument cannot be used as it is; the message names it and says what can."""


def parser(version: str) -> argparse.ArgumentParser:
    """The parser of ``swinir``. What it parses has the name of the command as ``command``.

    A function of this module adds the options of the command of its name; its docstring is the
    help: a summary for the list of commands, a description and examples.
    """
    swinir = argparse.ArgumentParser(
        prog="swinir",
        description="SwinIR image restoration: enlarge, denoise, remove JPEG artefacts.",
    )
    swinir.add_argument("--version", action="version", version=f"swinir {version}")
    commands = swinir.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True
    )
    every = (restore, look, evaluate, train, info, models, convert, blend, export, benchmark)
    for add_options in every:
        summary, _, text = (inspect.getdoc(add_options) or "").partition("\n\n")
        description, _, examples = text.partition("\n\n")
        command = commands.add_parser(
            add_options.__name__,
            help=summary,
            description=description,
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        add_options(command)
    return swinir


def restore(command: argparse.ArgumentParser) -> None:
    """Restore image files.

    Restore PNG, JPEG, WebP and TIFF files, one at a time; several processes that
    torchrun or accelerate launch has started divide them among themselves. Results
    written as PNG or TIFF may be larger than the memory. Pages of a TIFF and frames
    of an animation (PNG, WebP; GIF becomes PNG or WebP) are restored one by one.
    Metadata is kept, and what the format cannot hold is said; dots per inch and
    GeoTIFF's pixels follow the scale, so that sizes in the world stay. A video file that
    is named becomes an MP4 file with its sound, a few frames in memory at a time; after
    Ctrl-C the frames that are done are a file that plays.

    examples:
      swinir restore photo.jpg -o restored/
      swinir restore photo.jpg -o photo_x2.png
      swinir restore photo.jpg -o photo_4k.png --longest 3840 --strength 0.8
      swinir restore holiday/ "scans/*.tif" -o restored/ --model models/my_swinir.pth
      swinir restore clip.mov -o clip_x2.mp4 --model upscale_x2_light
      torchrun --nproc_per_node 2 -m swinir_core restore holiday/ -o restored/ --resume
    """
    add = command.add_argument
    add("inputs", **_IMAGES)
    add(
        "-o",
        "--output",
        metavar="OUT",
        type=path_argument,
        required=True,
        help="folder for the results; or a file name, for one image or video",
    )
    add("--model", **_MODEL)
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
    add("--device", **_DEVICE)
    add("--precision", choices=("auto", *PRECISIONS), default="auto", help="of the arithmetic")
    add(
        "--format",
        choices=("same", "png", "jpg", "webp", "tiff"),
        default="same",
        help="of results in a folder (default: that of each image)",
    )
    size = command.add_mutually_exclusive_group()
    size.add_argument(
        "--scale",
        type=_above_zero,
        metavar="FACTOR",
        help="size of results beside the images, such as 1.5 (default: the model's scale)",
    )
    size.add_argument(
        "--longest", type=_above_zero, metavar="PIXELS", help="size of results by their longer side"
    )
    size.add_argument(
        "--megapixels", type=_above_zero, metavar="N", help="size of results in millions of pixels"
    )
    add(
        "--strength",
        type=_share,
        default=1.0,
        metavar="0..1",
        help="share of the model's picture, the rest being the image plainly resized",
    )
    add("--ensemble", **_ENSEMBLE)
    add(
        "--edges",
        choices=EDGES,
        default=EDGES[0],
        help="what the model sees beyond the edges: what the network puts there, the picture "
        "mirrored, or its opposite edges, for textures and panoramas",
    )
    add(
        "--colors",
        choices=COLORS,
        default=COLORS[0],
        help="as the model gives them, or slow changes of color from the input, and gray kept gray",
    )
    add(
        "--alpha",
        choices=ALPHAS,
        default=ALPHAS[0],
        help="transparency is enlarged plainly, or restored by the model, up to twice as long",
    )
    add(
        "--white",
        type=_count,
        metavar="LEVEL",
        help="white of 16-bit files that do not use all levels, such as 4095; results keep it",
    )
    video = command.add_argument_group("videos")
    video.add_argument(
        "--codec", choices=CODECS, default=Encoding.codec, help="of video files (default: h264)"
    )
    video.add_argument(
        "--crf",
        type=_crf,
        default=Encoding.crf,
        metavar="0..51",
        help="quality of video files, lower is better and larger (default: 18)",
    )
    video.add_argument(
        "--pixel-format",
        choices=PIXEL_FORMATS,
        default=Encoding.pixel_format,
        help="10le keeps 10 bits, 444p fine color and odd sizes (default: yuv420p)",
    )
    video.add_argument(
        "--reduce-flicker",
        action="store_true",
        help="mix each frame with the one before where nothing moves",
    )
    existing = command.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", **_OVERWRITE)
    existing.add_argument(
        "--resume",
        action="store_true",
        help="leave out images whose results exist, so that a run that was stopped goes on",
    )


def look(command: argparse.ArgumentParser) -> None:
    """Tell what is wrong with image files, and the model to use.

    Estimate noise, JPEG quality and blur from the pixels of each image (of several
    pages or frames from those of the first) and name the bundled model for them.

    examples:
      swinir look photo.jpg
      swinir look holiday/ "scans/*.tif" --json looks.json
    """
    add = command.add_argument
    add("inputs", **_IMAGES)
    add("--json", **_JSON)


def evaluate(command: argparse.ArgumentParser) -> None:
    """Score a model on good images as the paper does.

    Make low-quality images from good ones, restore them and compare: PSNR and
    SSIM, for JPEG also PSNR-B, by the protocol of the paper's tables. Images are
    divided among the processes that torchrun or accelerate launch has started.

    examples:
      swinir evaluate --data Set5/
      swinir evaluate --model color_denoise.pth --data CBSD68/ --sigma 50
      swinir evaluate --model gray_jpeg.pth --data LIVE1/ --quality 40 --ensemble
      torchrun --nproc_per_node 2 -m swinir_core evaluate --data BSD100/ --json scores.json
    """
    add = command.add_argument
    add("--model", **_MODEL)
    add(
        "--task",
        choices=("sr", "real_sr", "denoise", "jpeg"),
        help="how images are made worse (default: by the model's own task)",
    )
    add(
        "--data",
        type=path_argument,
        required=True,
        metavar="DIR",
        help="folder of good images, or a test set as it comes, with its inputs in it",
    )
    add("--sigma", type=float, help="of the noise, in levels of 255 (default: 25)")
    add("--quality", type=int, help="of the JPEG files, 1 to 100 (default: 10)")
    add(
        "--gray",
        action="store_true",
        help="gray images also for a colour model; a gray one takes no others",
    )
    add("--ensemble", **_ENSEMBLE)
    add("--device", **_DEVICE)
    add(
        "--precision",
        choices=PRECISIONS,
        default="float32",
        help="of the arithmetic (default: float32)",
    )
    add("--json", **_JSON)


def train(command: argparse.ArgumentParser) -> None:
    """Train a network on your own images.

    Train as a TOML file says, or as one of the ready configurations does. Options
    replace what is in the file.

    examples:
      swinir train --list
      swinir train laptop_denoise --data photographs/ --out runs/denoise
      swinir train laptop_denoise --data photographs/ --out runs/denoise --resume
      swinir train laptop_denoise --show > my.toml
      swinir train my.toml
      torchrun --nproc_per_node 2 -m swinir_core train my.toml
    """
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "config",
        metavar="CONFIG",
        type=not_empty,
        nargs="?",
        help="TOML file, or the name of a ready configuration",
    )
    what.add_argument("--list", action="store_true", help="list the ready configurations")
    add = command.add_argument
    add("--show", action="store_true", help="print the configuration file, to be edited")
    add(
        "--data", nargs="+", type=path_argument, metavar="DIR", help="folders of images to train on"
    )
    add("--validate", type=path_argument, metavar="DIR", help="folder of images to score")
    add("--out", type=path_argument, metavar="DIR", help="folder for weights, state and log")
    add("--steps", type=int, metavar="N", help="length of the run; the schedule is stretched")
    add(
        "--start-from",
        type=path_argument,
        metavar="MODEL",
        help="model file or bundled model whose fitting weights are taken over",
    )
    add(
        "--teacher",
        type=path_argument,
        metavar="MODEL",
        help="model of any architecture whose pictures the network learns to make",
    )
    add("--device", choices=("auto", "cpu"), help="a GPU if there is one, or cpu")
    add("--resume", action="store_true", help="continue the run in the output folder")


def info(command: argparse.ArgumentParser) -> None:
    """Show what a model file holds."""
    command.add_argument(
        "model", metavar="MODEL", type=not_empty, help="model file, or the name of a bundled model"
    )
    command.add_argument("--json", action="store_true", help="print JSON")


def models(_: argparse.ArgumentParser) -> None:
    """List the bundled models."""


def convert(command: argparse.ArgumentParser) -> None:
    """Convert a model file to .safetensors.

    Write a model file of any kind as .safetensors, with its configuration.

    examples:
      swinir convert model.pth model.safetensors --precision float16
      swinir convert neosr.pth neosr.safetensors --mean 0.5
    """
    add = command.add_argument
    add("input", metavar="IN", type=not_empty, help="model file (.pth, .pt, .ckpt, .safetensors)")
    add("output", metavar="OUT.safetensors", type=path_argument, help="file to write")
    add(
        "--precision",
        choices=("same", *PRECISIONS),
        default="same",
        help="precision of the written weights (default: same)",
    )
    add(
        "--mean",
        choices=MEAN_NAMES,
        help="that the network was trained with, which no weight tells: neosr's is 0.5 "
        "(default: as in the file, else DIV2K for colour and none for gray)",
    )
    add(
        "--range",
        choices=RANGES,
        help="of pixels in the network (default: as in the file, else 255 for windows of 7)",
    )
    add("--overwrite", **_OVERWRITE)


def blend(command: argparse.ArgumentParser) -> None:
    """Mix two models into one.

    Mix the weights of two SwinIR models of the same shape, which best were trained
    from one another: between two strengths of denoising, between denoising and
    JPEG artefacts, between PSNR and GAN. A warning says where the half-way blend
    is worse than both.

    examples:
      swinir blend denoise_color_light jpeg_color_light --amount 0.5 -o both.safetensors
      swinir blend noise15.pth noise50.pth --amount 0.3 -o noise25.safetensors
    """
    add = command.add_argument
    for name in ("model_a", "model_b"):
        add(name, metavar=name.upper(), type=not_empty, help="model file, or a bundled model")
    add(
        "--amount",
        type=_share,
        default=0.5,
        help="of MODEL_B, 0 to 1: 0 is MODEL_A, 1 is MODEL_B (default: 0.5)",
    )
    add(
        "-o",
        "--output",
        metavar="OUT.safetensors",
        type=path_argument,
        required=True,
        help="file to write",
    )
    add("--overwrite", **_OVERWRITE)


def export(command: argparse.ArgumentParser) -> None:
    """Write a model as ONNX, for other programs.

    Write a model in float32 as an ONNX file (opset 17) for TensorRT, ONNX Runtime and
    others. Its input has one size, NxN: pixels of 0 to 1, (1, channels, N, N); larger
    pictures are cut into such tiles by the program that runs it.

    examples:
      swinir export upscale_x2_light --onnx x2.onnx --tile 256
      swinir export my_swinir.pth --onnx my_swinir.onnx --tile 512
    """
    add = command.add_argument
    add("model", metavar="MODEL", type=not_empty, help="model file, or a bundled model")
    add("--onnx", type=path_argument, required=True, metavar="FILE", help="file to write")
    add("--tile", type=_count, required=True, metavar="N", help="sides of the input, in pixels")
    add("--overwrite", **_OVERWRITE)


def benchmark(command: argparse.ArgumentParser) -> None:
    """Measure time and memory on this machine.

    Measure time, memory and exactness of a model beside spandrel, which most
    programs use: same weights, same image, one process, in turn.

    examples:
      swinir benchmark
      swinir benchmark --model lightweight_sr_x2 --size 128 256 640x480 --threads 2
      swinir benchmark --model my_swinir.pth --device cuda --json results.json
    """
    add = command.add_argument
    add(
        "--model",
        type=not_empty,
        help="bundled model, model file, or a published configuration with random weights "
        "(default: see swinir models)",
    )
    add(
        "--size",
        type=_size,
        nargs="+",
        default=[(128, 128), (256, 256)],
        metavar="N|WxH",
        help="image sizes in pixels (default: 128 256)",
    )
    add("--device", **_DEVICE)
    add(
        "--precision",
        choices=PRECISIONS,
        nargs="+",
        default=["float32", "bfloat16"],
        help="of the arithmetic (default: float32 bfloat16)",
    )
    add("--threads", type=_count, metavar="N", help="CPU threads (default: as torch chooses)")
    add("--rounds", type=_count, default=5, metavar="N", help="timed runs of each (default: 5)")
    add(
        "--only",
        choices=("time", "memory"),
        help="leave out the other, and its runs: for images that take minutes",
    )
    add("--json", **_JSON)


def not_empty(text: str) -> str:
    """Argument type: text that is not empty; pathlib would take "" for the current folder."""
    if not text:
        raise argparse.ArgumentTypeError('must name something, not ""')
    return text


def path_argument(text: str) -> Path:
    """Argument type: a path."""
    return Path(not_empty(text))


def json_argument(name: str) -> str:
    """Argument type: a .json file that can be written, or ``-``; checked before any work."""
    path = Path(not_empty(name))
    if name == STDOUT:
        return name
    if path.suffix.lower() != ".json":
        raise argparse.ArgumentTypeError(f"the name must end in .json, or be -, not {name!r}")
    try:
        check_target(path)
    except WriteError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name


def _tile(text: str) -> str | int:
    tile = _matched(r"auto|whole|\d+", text, "auto, whole or a number of pixels")
    return int(tile) if tile.isdecimal() else tile


def _device(text: str) -> str:
    return _matched(r"auto|cpu|mps|(cuda|xpu)(:\d+)?", text, "auto, cpu, cuda, cuda:1, xpu or mps")


def _size(text: str) -> tuple[int, int]:
    """(width, height) of ``N`` or ``WxH``."""
    size = _matched(r"[1-9]\d{0,5}(x[1-9]\d{0,5})?", text, "a side or WIDTHxHEIGHT in pixels")
    width, _, height = size.partition("x")
    return int(width), int(height or width)


def _count(text: str) -> int:
    return int(_matched(r"[1-9]\d{0,5}", text, "a number of at least 1"))


def _crf(text: str) -> int:
    return int(_matched(r"[1-4]?\d|5[01]", text, "a number from 0 to 51"))


def _above_zero(text: str) -> float:
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return number


def _share(text: str) -> float:
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text!r}")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _matched(pattern: str, text: str, expected: str) -> str:
    if not re.fullmatch(pattern, text):
        raise argparse.ArgumentTypeError(f"must be {expected}, not {text!r}")
    return text


# The options of several commands.
_IMAGES: dict[str, Any] = {
    "metavar": "IN",
    "type": not_empty,
    "nargs": "+",
    "help": "image, folder (searched to any depth) or pattern",
}
_MODEL: dict[str, Any] = {
    "type": not_empty,
    "help": "model file, or the name of a bundled model (default: see swinir models)",
}
_DEVICE: dict[str, Any] = {
    "type": _device,
    "default": "auto",
    "help": "auto, cpu, cuda, cuda:1, xpu, mps ...",
}
_ENSEMBLE: dict[str, Any] = {
    "action": "store_true",
    "help": "mean over eight flips and turns: a little better, eight times as long",
}
_OVERWRITE: dict[str, Any] = {"action": "store_true", "help": "replace files that exist"}
_JSON: dict[str, Any] = {
    "type": json_argument,
    "metavar": "FILE",
    "help": "write everything there, or to - alone",
}
