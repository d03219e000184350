"""Pictures written under given names into a folder, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import numpy as np
import PIL.Image

from ..errors import ImageError, WriteError
from ..file_names import folded, relative_name
from ..files import real_path, replacing
from ..images.levels import to_integers
from ..text import shown
from .listing import SUFFIXES

FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp"}
"""Suffix of the files of each format."""

EXISTING = ("number", "replace", "skip", "stop")
"""What is done where a file has the name of a result: ``number`` puts _2, _3 and so on behind the
name, ``replace`` replaces the file, ``skip`` keeps it and makes no result, ``stop`` does nothing at
all."""

_LONGEST_SIDE = {"jpg": 65500, "webp": 16383}


def plan_targets(
    root: Path, folder: str, names: Iterable[str], file_format: str, existing: str
) -> list[Path | None]:
    """Find the file that each result is written to; None for one that is not wanted.

    No two are the same: a name that occurs again is numbered, whatever ``existing`` says.

    Args:
        root: Folder that nothing is written outside of, wherever links in it lead.
        folder: Name of a folder in it; empty for ``root`` itself.
        names: Of the results, which may lie in further folders. A suffix of a picture is taken off.
        file_format: One of ``FORMATS``.
        existing: One of ``EXISTING``.

    Raises:
        ValueError: A name is empty, leads out of ``root``, or is not valid on every system.
        WriteError: A file has the name of a result, and ``existing`` is ``stop``.
    """
    inside = PurePosixPath()
    if folder.strip() not in ("", "."):
        inside = relative_name(folder.strip().rstrip("/\\"), root.name, "restored")
    planned, targets = set[str](), list[Path | None]()
    for name in names:
        wanted = relative_name(name, root.name, "picture", SUFFIXES)
        path = _target(root, inside / wanted, FORMATS[file_format])
        number = 1
        while folded(str(path)) in planned or (existing == "number" and _is_taken(path)):
            number += 1
            numbered = inside / wanted.with_name(f"{wanted.name}_{number}")
            path = _target(root, numbered, FORMATS[file_format])
        planned.add(folded(str(path)))
        taken = existing in ("skip", "stop") and _is_taken(path)
        if taken and existing == "stop":
            raise WriteError(
                f"{path} exists, and nothing was written; choose another folder, or number, skip "
                "or replace for what exists."
            )
        targets.append(None if taken else path)
    return targets


def write_picture(
    path: Path, pixels: np.ndarray, quality: int, profile: bytes | None = None
) -> None:
    """Write a picture with 8 bits per channel, whole or not at all, in the format of the suffix.

    Args:
        path: Ends in one of the suffixes of ``FORMATS``; folders are made where they are missing.
        pixels: (H, W, 3 or 4) floats in 0..1.
        quality: 1 to 100, of JPEG and WebP.
        profile: The ICC profile of its colours.

    Raises:
        ImageError: The format cannot hold the picture.
        WriteError: The file cannot be written.
    """
    file_format = path.suffix[1:]
    height, width, channels = pixels.shape
    longest = _LONGEST_SIDE.get(file_format)
    if longest is not None and max(height, width) > longest:
        raise ImageError(
            f"{shown(path.name)}: {file_format} holds {longest} pixels a side at most and the "
            f"picture has {width}x{height}; choose png."
        )
    if file_format == "jpg" and channels == 4:
        if (pixels[..., 3] < 1).any():
            raise ImageError(
                f"{shown(path.name)}: jpg cannot hold its transparency; choose png or webp."
            )
        pixels = pixels[..., :3]
    image = PIL.Image.fromarray(to_integers(pixels))
    options = {"jpg": {"subsampling": 0}, "png": {"compress_level": 4}, "webp": {"exact": True}}
    kind = "JPEG" if file_format == "jpg" else file_format
    with replacing(path) as part:
        image.save(part, kind, quality=quality, icc_profile=profile or b"", **options[file_format])


def _target(root: Path, inside: PurePosixPath, suffix: str) -> Path:
    """The path of a result. Raises ``ValueError`` where links in ``root`` lead it out of there."""
    path = root / inside.with_name(inside.name + suffix)
    if not real_path(path).is_relative_to(real_path(root)):
        raise ValueError(f"{path} is a link that leads out of {root}; choose another name.")
    return path


def _is_taken(path: Path) -> bool:
    return path.exists() or path.is_symlink()  # A link that leads nowhere as yet.
