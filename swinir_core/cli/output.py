"""Output of commands: tables, JSON, and failures as sentences."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ..files import replacing
from ..text import shown
from .options import STDOUT

_LONGEST_SENTENCE = 2000


def report_error(error: Exception | str) -> None:
    """Print a failure on stderr, above a progress bar if there is one."""
    from tqdm import tqdm

    tqdm.write(f"swinir: error: {sentence(error)}", file=sys.stderr)


def report_warning(warning: str) -> None:
    """Print on stderr what the user should know of a result, above a progress bar."""
    from tqdm import tqdm

    tqdm.write(f"swinir: warning: {sentence(warning)}", file=sys.stderr)


def sentence(error: Exception | str) -> str:
    """The first line of a failure, safe for a terminal: messages of libraries may be empty, have
    fifty lines, or quote the contents of a file."""
    lines = str(error).strip().splitlines()
    return shown(lines[0], _LONGEST_SENTENCE) if lines else f"{type(error).__name__}."


def why_not_overwritten(source: Path, target: Path) -> str:
    """The sentence for a ``target`` that exists, made of ``source``."""
    if target.samefile(source):
        return f"{shown(source)} would be replaced by its own result; --overwrite allows that."
    return f"{shown(target)} already exists; pass --overwrite to replace it."


def aligned(rows: Sequence[Sequence[str]], left: Collection[str]) -> list[str]:
    """Lines of a table with columns of equal width, the first row being its headings: columns of
    the headings ``left`` to the left, others to the right."""
    columns = []
    for column in zip(*rows, strict=True):
        width, pad = max(map(len, column)), str.ljust if column[0] in left else str.rjust
        columns.append([pad(cell, width) for cell in column])
    return ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]


def write_report(target: str | None, table: str, facts: dict[str, Any]) -> None:
    """Print ``table`` and write ``facts`` to the JSON file ``target``, if given; for ``-`` print
    them in place of the table. Raises ``WriteError``."""
    if target != STDOUT:
        print(table)
    if target:
        write_json(target, facts)


def write_json(target: str, facts: dict[str, Any]) -> None:
    """Write ``facts`` to the file ``target``, or to stdout for ``-``. Raises ``WriteError``."""
    content = json.dumps(facts, indent=2, allow_nan=False)
    if target == STDOUT:
        print(content)
    else:
        with replacing(Path(target)) as part:
            part.write_text(content + "\n", "utf-8")
