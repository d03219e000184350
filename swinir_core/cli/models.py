"""``swinir info``, ``models``, ``convert``, ``blend``: look into model files and rewrite them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..checkpoints.blending import BLENDED, blend_warning
from ..checkpoints.blending import blend as blend_models
from ..checkpoints.checkpoint import read_checkpoint, write_checkpoint
from ..checkpoints.models import bundled_models, find_model, with_pixels
from ..degradation.samples import inputs_of_tasks
from ..errors import CheckpointError
from ..files import check_target
from ..model_names import DEFAULT_MODEL
from ..text import shown
from .options import UsageError
from .output import report_warning, why_not_overwritten

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
    _check_output(target, [source], args.overwrite)
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


def blend(args: argparse.Namespace) -> int:
    """Write a blend of two models, and warn where they do not blend."""
    sources, target = [find_model(model) for model in (args.model_a, args.model_b)], args.output
    _check_output(target, sources, args.overwrite)
    model_a, model_b = map(read_checkpoint, sources)
    blended = blend_models(model_a, model_b, args.amount)
    write_checkpoint(target, blended)
    print(f"{blended.metadata[BLENDED]} -> {shown(target)} ({target.stat().st_size / 1e6:.1f} MB)")
    config, tasks = model_a.config, (model_a.config.task, model_b.config.task)
    pairs = inputs_of_tasks(tasks, config.scale, config.in_channels)
    if warning := blend_warning(model_a, model_b, pairs):
        report_warning(warning)
    return 0


def _check_output(target: Path, sources: Sequence[Path], overwrite: bool) -> None:
    """Raise ``UsageError`` or ``WriteError`` unless a model made of ``sources`` may be written to
    ``target``."""
    if target.suffix.lower() != ".safetensors":
        raise UsageError(f"{target}: the name of the written model must end in .safetensors.")
    check_target(target)
    if target.exists() and not overwrite:
        source = next((path for path in sources if target.samefile(path)), sources[0])
        raise UsageError(why_not_overwritten(source, target))
