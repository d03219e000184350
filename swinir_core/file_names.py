"""File names that mean something else, or nothing, on another system."""

from __future__ import annotations

import re
import unicodedata
from pathlib import PurePath

_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f\ud800-\udfff]')
# Devices, which Windows finds in every folder and with any suffix.
_RESERVED = re.compile(
    r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\.|$)", re.IGNORECASE
)


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
