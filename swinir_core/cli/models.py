"""``swinir info``, ``models`` and ``convert``: look into model files and rewrite them."""

from __future__ import annotations

import argparse
import json
from itertools import islice
from typing import Any

import torch

from ..checkpoints.checkpoint import read_checkpoint, write_checkpoint
from ..checkpoints.models import DEFAULT_MODEL, bundled_models, find_model, with_pixels
from ..errors import CheckpointError
from ..files import check_target
from ..text import shown
from .options import UsageError
from .output import why_not_overwritten

_MOST_ENTRIES, _LONGEST_NAME, _LONGEST_VALUE = 100, 100, 400
"""Bounds of the texts of a model file that ``info`` prints on a terminal."""


def info(args: argparse.Namespace) -> int:
    """Print the facts and texts of a model file: bounded lines for a terminal, or all as JSON.

    ``guessed`` is what no weight tells and ``convert`` can set.
    """
    path = find_model(args.model)
    checkpoint = read_checkpoint(path)
    weights = checkpoint.state_dict.values()
    facts: dict[str, Any] = {
        "file": str(path) if args.json else shown(path),
        "task": checkpoint.config.task,
        "scale": checkpoint.config.scale,
        "channels": checkpoint.config.in_channels,
        "parameters": sum(weight.numel() for weight in weights),
        "precision": ", ".join(sorted({str(w.dtype).removeprefix("torch.") for w in weights})),
        "taken": checkpoint.taken or "the only weights",
        "config": checkpoint.config.to_dict(),
        "guessed": checkpoint.guessed,
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
    """Print two lines for each bundled model: its purpose and its scores."""
    for model in bundled_models():
        default = " (default)" * (model.name == DEFAULT_MODEL)
        print(f"{model.name}{default}, x{model.scale}: {model.description}")
        print("  " + "; ".join(f"{protocol}: {score}" for protocol, score in model.scores.items()))
    return 0


def convert(args: argparse.Namespace) -> int:
    """Write any readable checkpoint as .safetensors."""
    source, target = find_model(args.input), args.output
    if target.suffix.lower() != ".safetensors":
        raise UsageError(f"{target}: the name of the converted model must end in .safetensors.")
    check_target(target)
    if target.exists() and not args.overwrite:
        raise UsageError(why_not_overwritten(source, target))
    size = source.stat().st_size
    dtype = None if args.precision == "same" else getattr(torch, args.precision)
    try:
        checkpoint = with_pixels(read_checkpoint(source), args.mean, args.range)
    except CheckpointError:
        raise
    except ValueError as error:
        raise UsageError(f"--mean: {error}") from error
    write_checkpoint(target, checkpoint, dtype)
    written = f"{shown(target)} ({target.stat().st_size / 1e6:.1f} MB)"
    print(f"{shown(source)} ({size / 1e6:.1f} MB) -> {written}")
    return 0
