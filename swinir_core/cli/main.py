"""The ``swinir`` command: restore image files, look into models, convert them.

Exit status: 0 when all is well, 1 when a file failed, 2 for wrong usage, 130 after Ctrl-C. torch
is imported by the commands that need it, so that help and mistyped options answer at once.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from importlib import metadata
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..errors import CheckpointError, ImageError
from ..text import shown
from .benchmark import add_benchmark
from .evaluate import add_evaluate
from .restore import (
    PRECISIONS,
    UsageError,
    add_restore,
    dtype_named,
    not_empty,
    path_argument,
    sentence,
    why_not_overwritten,
)
from .train import add_train

if TYPE_CHECKING:
    import torch

_MOST_ENTRIES, _LONGEST_NAME, _LONGEST_VALUE = 100, 100, 400
"""Of what a model file says, on a terminal."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; ``argv`` is without the program's name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name that the terminal cannot show must not stop the run.
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except (UsageError, ImageError) as error:
        return _fail(error, 2)
    except (CheckpointError, OSError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted; finished files are kept.", 130)


def info(args: argparse.Namespace) -> int:
    """Print what a model file says about itself: as JSON everything, otherwise no more of each text
    than a terminal can be expected to show."""
    from ..checkpoints.checkpoint import read_checkpoint
    from ..checkpoints.models import find_model

    path = find_model(args.model)
    checkpoint = read_checkpoint(path)
    weights = checkpoint.state_dict.values()
    facts: dict[str, Any] = {
        "file": str(path) if args.json else shown(path),
        "task": checkpoint.config.task,
        "scale": checkpoint.config.scale,
        "channels": checkpoint.config.in_channels,
        "parameters": sum(weight.numel() for weight in weights),
        "precision": ", ".join(sorted({_name(weight.dtype) for weight in weights})),
        "config": checkpoint.config.to_dict(),
        "metadata": dict(checkpoint.metadata),
    }
    if args.json:
        print(json.dumps(facts, indent=2).replace("\x7f", "\\u007f"))
        return 0
    for name, value in facts.items():
        if not isinstance(value, dict):
            print(f"{name:<16} {value:,}" if name == "parameters" else f"{name:<16} {value}")
        elif value:
            print(f"{name}:")
            for inner, setting in islice(value.items(), _MOST_ENTRIES):
                name, text = shown(inner, _LONGEST_NAME), shown(setting, _LONGEST_VALUE)
                print(f"  {name:<16} {text}")
            if len(value) > _MOST_ENTRIES:
                print(f"  and {len(value) - _MOST_ENTRIES} more; --json prints them all")
    return 0


def models(args: argparse.Namespace) -> int:
    """Print what is bundled: a line about each model, and one of what it scores."""
    from ..checkpoints.models import DEFAULT_MODEL, bundled_models

    for model in bundled_models():
        default = " (default)" * (model.name == DEFAULT_MODEL)
        print(f"{model.name}{default}, x{model.scale}: {model.description}")
        print("  " + "; ".join(f"{protocol}: {score}" for protocol, score in model.scores.items()))
    return 0


def convert(args: argparse.Namespace) -> int:
    """Write any readable checkpoint as .safetensors."""
    from ..checkpoints.checkpoint import read_checkpoint, write_checkpoint
    from ..checkpoints.models import find_model
    from ..files import check_target

    source, target = find_model(args.input), args.output
    if target.suffix.lower() != ".safetensors":
        raise UsageError(f"{target}: the name of the converted model must end in .safetensors.")
    check_target(target)
    if target.exists() and not args.overwrite:
        raise UsageError(why_not_overwritten(source, target))
    size = source.stat().st_size
    write_checkpoint(target, read_checkpoint(source), dtype_named(args.precision))
    written = f"{shown(target)} ({_megabytes(target.stat().st_size)})"
    print(f"{shown(source)} ({_megabytes(size)}) -> {written}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="swinir",
        description="SwinIR image restoration: enlarge, denoise, remove JPEG artefacts.",
    )
    parser.add_argument("--version", action="version", version=f"swinir {_version()}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_restore(commands)
    add_evaluate(commands)
    add_train(commands)

    command = commands.add_parser("info", help="show what a model file holds")
    command.add_argument(
        "model",
        metavar="MODEL",
        type=not_empty,
        help="model file, or the name of a bundled model",
    )
    command.add_argument("--json", action="store_true", help="print JSON")
    command.set_defaults(run=info)

    command = commands.add_parser("models", help="list the bundled models")
    command.set_defaults(run=models)

    command = commands.add_parser("convert", help="convert a model file to .safetensors")
    command.add_argument(
        "input",
        metavar="IN",
        type=not_empty,
        help="model file (.pth, .pt, .ckpt, .safetensors)",
    )
    command.add_argument(
        "output", metavar="OUT.safetensors", type=path_argument, help="file to write"
    )
    command.add_argument(
        "--precision",
        choices=("same", *PRECISIONS),
        default="same",
        help="precision of the written weights (default: same)",
    )
    command.add_argument("--overwrite", action="store_true", help="replace OUT if it exists")
    command.set_defaults(run=convert)

    add_benchmark(commands)
    return parser


def _fail(error: Exception | str, status: int) -> int:
    print(f"swinir: error: {sentence(error)}", file=sys.stderr)
    return status


def _version() -> str:
    try:
        return metadata.version("swinir-restore")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
