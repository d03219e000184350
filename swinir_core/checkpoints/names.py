"""Names that people give to model files, made safe: they come from widgets and from strangers'
workflows."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from ..file_names import FORBIDDEN, RESERVED
from .checkpoint import SUFFIXES

_LONGEST = 200
"""Bytes of a file name in UTF-8; file systems allow 255 and the suffix needs some."""

_DRIVE = re.compile(r"^[A-Za-z]:")


def check_name(name: str) -> PurePosixPath:
    """``name`` as a path of subfolders and a file name without suffix, valid on every system and
    never outside the folder it is put into.

    Backslashes separate folders as well; a suffix of a model file is taken off. Raises
    ``ValueError`` saying what is wrong with it.
    """
    path = name.strip().replace("\\", "/")
    suffix = next((suffix for suffix in SUFFIXES if path.lower().endswith(suffix)), "")
    path = path[: len(path) - len(suffix)]
    if not path:
        raise ValueError("The name is empty; write one such as my_swinir.")
    if path.startswith("/"):
        raise ValueError(f"{name!r} is an absolute path; write a name inside models/swinir.")
    if _DRIVE.match(path):
        raise ValueError(f"{name!r} begins with a drive; write a name inside models/swinir.")
    for part in path.split("/"):
        _check_part(part, name)
    return PurePosixPath(path)


def _check_part(part: str, name: str) -> None:
    """Refuse a folder or file name that some system cannot hold, or that leads elsewhere."""
    if not part:
        raise ValueError(f"{name!r} has an empty part; write a name between and after slashes.")
    if part in (".", ".."):
        raise ValueError(f"{name!r} must not contain {part!r}; it stays inside models/swinir.")
    forbidden = FORBIDDEN.search(part)
    if forbidden:
        raise ValueError(f"{name!r} contains {forbidden[0]!r}, which file names cannot hold.")
    if part.endswith((".", " ")) or part.startswith(" "):
        raise ValueError(f"In {name!r} a part begins or ends with a space or ends with a dot.")
    if RESERVED.match(part):
        raise ValueError(f"{part!r} is a name that Windows keeps for devices; choose another.")
    if len(part.encode()) > _LONGEST:
        raise ValueError(f"A name of {len(part)} characters is too long; shorten it.")
