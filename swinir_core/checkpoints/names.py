"""Names of model files: suffixes, the bundled ones, and those that people give; and the names of
what a network may have been trained with and its weights do not tell.

Needs no torch, so that commands which only name a model start at once.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ..file_names import windows_fault

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of the bundled models."""

MEAN_NAMES = ("DIV2K", "0.5", "none")
"""Means that trainers subtract from images: of the official colour models, of neosr, of others."""

RANGES = ("1", "255")
"""Ranges to which trainers stretch pixels of 0..1."""

# Bytes of a file name in UTF-8; file systems allow 255, and suffix and number need some.
_LONGEST = 200


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
    path = name.strip().replace("\\", "/")
    suffix = next((suffix for suffix in SUFFIXES if path.lower().endswith(suffix)), "")
    path = path[: len(path) - len(suffix)]
    if not path:
        raise ValueError("The name is empty; write one such as my_swinir.")
    if path.startswith("/"):
        raise ValueError(f"{name!r} is an absolute path; write a name inside models/swinir.")
    for part in path.split("/"):
        if not part:
            raise ValueError(f"{name!r} has an empty part; write a name between and after slashes.")
        if part in (".", ".."):
            raise ValueError(f"{name!r} must not contain {part!r}; it stays inside models/swinir.")
        if part.startswith(" "):
            raise ValueError(f"In {name!r} a part begins with a space; leave the space out.")
        if len(part.encode("utf-8", "surrogatepass")) > _LONGEST:
            raise ValueError(f"A name of {len(part)} characters is too long; shorten it.")
    fault = windows_fault(PurePosixPath(path))
    if fault:
        raise ValueError(f"{name!r} cannot be used everywhere: {fault}; choose another name.")
    return PurePosixPath(path)
