"""What lies in a folder of pictures, in the order of people, and the names of the results."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..file_names import folded, portable
from ..files import real_path

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
"""Suffixes, in lower case, of the files that are taken for pictures."""


def subfolders(root: Path) -> list[str]:
    """List the folders at any depth in ``root`` that are not hidden, with slashes on every system.

    Links to folders are left out: they may lead anywhere.
    """
    found = []
    for folder, names, _ in os.walk(root):
        names[:] = [
            name for name in names if name[0] != "." and not Path(folder, name).is_symlink()
        ]
        found += [Path(folder, name).relative_to(root).as_posix() for name in names]
    return sorted(found, key=_natural)


def pictures_in(folder: Path) -> list[Path]:
    """List the picture files in ``folder`` itself that are not hidden, 2.png before 10.png.

    Links that lead out of the folder are left out. Raises ``OSError`` where it cannot be read.
    """
    inside = real_path(folder)
    return sorted(
        (
            path
            for path in folder.iterdir()
            if path.suffix.lower() in SUFFIXES
            and path.name[0] != "."
            and path.is_file()
            and real_path(path).is_relative_to(inside)
        ),
        key=lambda path: (_natural(path.stem), path.name),
    )


def names_of(paths: Iterable[Path]) -> list[str]:
    """Find a name without suffix for the result of each file, no two of which are one to any disk.

    It is that of the file; where several differ by their suffix only, such as cat.png and cat.jpg,
    they become cat_png and cat_jpg. Characters that some system forbids become ``_``.
    """
    paths = list(paths)
    shared = Counter(folded(portable(path.stem)) for path in paths)
    names = dict[str, str]()
    for path in paths:
        name = portable(path.stem)
        if shared[folded(name)] > 1:
            name += f"_{path.suffix[1:]}"
        while folded(name) in names:
            name += "_"
        names[folded(name)] = name
    return list(names.values())


def fingerprint(paths: Sequence[Path]) -> str:
    """Digest names, sizes and times of files: another one when a file comes, goes or changes."""
    lines = ((path.name, (stat := path.stat()).st_size, stat.st_mtime_ns) for path in paths)
    return hashlib.sha256(repr(list(lines)).encode("utf-8", "surrogatepass")).hexdigest()


def _natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts numbers in names by their value and before letters, letters without regard
    to capitals."""
    parts = re.split(r"(\d+)", folded(name))
    key = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
    return [*key, (-1, 0, name)]  # The last for names that differ by capitals only.
