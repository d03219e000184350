"""``swinir export``: models as files for other programs."""

from __future__ import annotations

import argparse

from ..checkpoints.checkpoint import read_checkpoint
from ..checkpoints.models import find_model
from ..checkpoints.onnx_file import OPSET, write_onnx
from ..files import check_target
from ..text import shown
from .main import version
from .options import UsageError
from .output import why_not_overwritten


def export(args: argparse.Namespace) -> int:
    """Write a model as an ONNX file for inputs of one size."""
    source, target, side = find_model(args.model), args.onnx, args.tile
    if target.suffix.lower() != ".onnx":
        raise UsageError(f"{target}: the name of the file must end in .onnx.")
    check_target(target)
    if target.exists() and not args.overwrite:
        raise UsageError(why_not_overwritten(source, target))
    checkpoint = read_checkpoint(source)
    alignment = checkpoint.config.alignment
    if -side % alignment >= side:
        raise UsageError(f"--tile {side} is too small for this model; pass {alignment} or more.")
    write_onnx(target, checkpoint, side, version())
    config = checkpoint.config
    shapes = f"(1, {config.in_channels}, {side}, {side}) to x{config.scale}"
    size = f"{target.stat().st_size / 1e6:.1f} MB"
    print(f"{shown(source)} -> {shown(target)} ({size}, opset {OPSET}, {shapes})")
    return 0
