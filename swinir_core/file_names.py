"""Names of files: what other systems make of them, and how to print them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePath

FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f\x7f\ud800-\udfff]')
"""Characters that no name may hold which is to exist on every system."""

RESERVED = re.compile(
    r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])\s*(\.|$)", re.IGNORECASE
)
"""Beginning of the names that Windows keeps for devices, in every folder and with any suffix."""


def windows_fault(path: PurePath) -> str | None:
    """Why Windows would not write ``path`` but another file or none; None where it would.

    The rules are those of "Naming Files, Paths, and Namespaces" in Microsoft's documentation.
    """
    for part in path.parts[bool(path.anchor) :]:
        forbidden = FORBIDDEN.search(part)
        if forbidden:
            return f"Windows takes no {forbidden[0]!r} in names"
        if RESERVED.match(part):
            return f"Windows keeps the name {part!r} for a device"
        if part.endswith((".", " ")) and part != "..":
            return f"Windows drops the dot or space at the end of {part!r}"
    return None


def shown(name: object, longest: int | None = None) -> str:
    """``name`` as text of one line that any terminal can be sent: line breaks, control characters
    and bytes that are no UTF-8 are written as backslash escapes. What follows the first ``longest``
    characters becomes an ellipsis."""
    text = str(name)
    line = "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in _UNSEEN else char
        for char in text[:longest]
    )
    return line if longest is None or len(text) <= longest else f"{line}…"


def listed(names: Sequence[object], most: int = 5) -> str:
    """The first names, each as ``shown``, and how many more there are; empty without any."""
    rest = len(names) - most
    return ", ".join(map(shown, names[:most])) + (f" and {rest} more" if rest > 0 else "")


_UNSEEN = ("Cc", "Cs", "Zl", "Zp")


def folded(name: str) -> str:
    """The same text for any two names that some file system takes for one, because it ignores case
    or the way a letter with its accent is composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
