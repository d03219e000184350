"""Names of model files: suffixes, the bundled ones, and those that people give.

Needs no torch and opens no file, so that models are listed before any is read.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from .file_names import relative_name

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the bundled models."""

DEFAULT_MODEL = "upscale_x2_light"

_TASKS = ("upscale", "real", "denoise_gray", "denoise_color", "jpeg_gray", "jpeg_color")
"""What names of bundled models begin with, in the order of the list."""


def bundled_files() -> dict[str, Path]:
    """The files of the bundled models by name: the default first, others by task and scale."""

    def place(path: Path) -> tuple[bool, list[bool], str]:
        name = path.stem
        return name != DEFAULT_MODEL, [not name.startswith(task) for task in _TASKS], name

    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"), key=place)}


def bundled_file(name: object) -> Path | None:
    """The file of the bundled model ``name``; None for any other name, and for every path."""
    path = WEIGHTS / f"{name}.safetensors"
    return path if path.parent == WEIGHTS and path.is_file() else None


def title(name: str) -> str:
    """The name of a bundled model for people: ``upscale_x2_light`` is "upscale x2 (light)"."""
    *words, size = name.split("_")
    return f"{' '.join(words)} ({size})"


def check_name(name: str) -> PurePosixPath:
    """Turn a name from a widget into folders and a file name without suffix, relative and valid on
    every system.

    Backslashes separate folders as well; a suffix of a model file is taken off. Raises
    ``ValueError`` saying what is wrong with the name.
    """
    return relative_name(name, "models/swinir", "my_swinir", SUFFIXES)
