"""File names that mean something else, or nothing, on another system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from pathlib import PurePath, PurePosixPath

_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f\ud800-\udfff]')
# Devices, which Windows finds in every folder and with any suffix.
_RESERVED = re.compile(
    r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\.|$)", re.IGNORECASE
)

# Bytes of a file name in UTF-8; file systems allow 255, and suffix and number need some.
_LONGEST = 200


def relative_name(
    name: str, inside: str, example: str, suffixes: Collection[str] = ()
) -> PurePosixPath:
    """Turn a name from a widget into folders and a file name, relative and valid on every system.

    Backslashes separate folders as well.

    Args:
        name: As it was written.
        inside: The folder that it stays in, for messages.
        example: A name such as those that are wanted, for messages.
        suffixes: Endings in lower case, of which one is taken off.

    Raises:
        ValueError: Says what is wrong with the name.
    """
    path = name.strip().replace("\\", "/")
    suffix = next((suffix for suffix in suffixes if path.lower().endswith(suffix)), "")
    path = path[: len(path) - len(suffix)]
    if not path:
        raise ValueError(f"The name is empty; write one such as {example}.")
    if path.startswith("/"):
        raise ValueError(f"{name!r} is an absolute path; write a name inside {inside}.")
    for part in path.split("/"):
        if not part:
            raise ValueError(f"{name!r} has an empty part; write a name between and after slashes.")
        if part in (".", ".."):
            raise ValueError(f"{name!r} must not contain {part!r}; it stays inside {inside}.")
        if part.startswith(" "):
            raise ValueError(f"In {name!r} a part begins with a space; leave the space out.")
        if len(part.encode("utf-8", "surrogatepass")) > _LONGEST:
            raise ValueError(f"A name of {len(part)} characters is too long; shorten it.")
    fault = windows_fault(PurePosixPath(path))
    if fault:
        raise ValueError(f"{name!r} cannot be used everywhere: {fault}; choose another name.")
    return PurePosixPath(path)


def portable(name: str) -> str:
    """Make a part of a path one that ``relative_name`` takes: what is forbidden becomes ``_``.

    A name that is valid already is returned as it is, where it is not too long.
    """
    name = _FORBIDDEN.sub("_", name).replace("\\", "_").replace("/", "_").strip(" ").rstrip(". ")
    name = f"_{name}" if not name or _RESERVED.match(name) else name
    return name.encode("utf-8")[:_LONGEST].decode("utf-8", "ignore").rstrip(". ")


def windows_fault(path: PurePath) -> str | None:
    """Reason why Windows would not write ``path`` but another file or none; None where it would.

    The rules are those of "Naming Files, Paths, and Namespaces" in Microsoft's documentation.
    """
    for part in path.parts[bool(path.anchor) :]:
        forbidden = _FORBIDDEN.search(part)
        if forbidden:
            return f"Windows takes no {forbidden[0]!r} in names"
        if _RESERVED.match(part):
            return f"Windows keeps the name {part!r} for a device"
        if part.endswith((".", " ")) and part != "..":
            return f"Windows drops the dot or space at the end of {part!r}"
    return None


def folded(name: str) -> str:
    """A key that is equal for any two names some file system takes for one file.

    Such systems ignore the case of letters, or whether an accent is composed with its letter.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
