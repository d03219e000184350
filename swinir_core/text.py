"""Text of strangers, made fit for a terminal and for one line of a message."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

# Control characters, bytes that are no UTF-8, line and paragraph separators.
_ESCAPED_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")


def shown(text: object, longest: int | None = None) -> str:
    """One line that any terminal can be sent, with every letter a file name may have kept.

    Line breaks, control characters and bytes that are no UTF-8 become backslash escapes, whatever
    follows the first ``longest`` characters an ellipsis.
    """
    whole = str(text)
    line = "".join(
        c.encode("unicode_escape").decode() if unicodedata.category(c) in _ESCAPED_CATEGORIES else c
        for c in whole[:longest]
    )
    return line if longest is None or len(whole) <= longest else f"{line}…"


def listed(names: Sequence[object], most: int = 5) -> str:
    """The first ``most`` names, each as ``shown``, and how many more there are."""
    rest = len(names) - most
    return ", ".join(map(shown, names[:most])) + (f" and {rest} more" if rest > 0 else "")


def quoted(text: object, longest: int = 400) -> str:
    """A quotation from a stranger's file: one line of printable characters, spaces for all others.

    Stricter than ``shown``, because nothing in it has to be recognised as the name of a file.
    """
    line = "".join(c if c.isprintable() else " " for c in str(text)[: longest + 1])
    return line if len(line) <= longest else f"{line[:-1]}…"
