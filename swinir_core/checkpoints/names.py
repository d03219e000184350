"""Names of model files: suffixes, the bundled ones, and those that people give; and the names of
what a network may have been trained with and its weights do not tell.

Needs no torch, so that commands which only name a model start at once.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ..file_names import relative_name

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the bundled models."""

MEAN_NAMES = ("DIV2K", "0.5", "none")
"""Means that trainers subtract from images: of the official colour models, of neosr, of others."""

RANGES = ("1", "255")
"""Ranges to which trainers stretch pixels of 0..1."""


def bundled_file(name: object) -> Path | None:
    """The file of the bundled model ``name``; None for any other name, and for every path."""
    path = WEIGHTS / f"{name}.safetensors"
    return path if path.parent == WEIGHTS and path.is_file() else None


def check_name(name: str) -> PurePosixPath:
    """Turn a name from a widget into folders and a file name without suffix, relative and valid on
    every system.

    Backslashes separate folders as well; a suffix of a model file is taken off. Raises
    ``ValueError`` saying what is wrong with the name.
    """
    return relative_name(name, "models/swinir", "my_swinir", SUFFIXES)
