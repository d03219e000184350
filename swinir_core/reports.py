"""Reports of how far a call is, made from within it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

Report: TypeAlias = Callable[[float], None]
"""Called with the part of a call that is done, 0 to 1, which never falls. What it raises ends the
call and passes through."""


def to_nobody(part: float) -> None:
    """Report nothing."""


def between(report: Report, start: float, stop: float) -> Report:
    """Make a report of one step of a call, which leads from ``start`` to ``stop`` of the whole."""
    return lambda part: report(start + (stop - start) * part)
