"""Writing files so that they are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to write, which takes the place of ``path`` when the block ends.

    When the block fails the new file is removed and ``path`` stays what it was. The new file lies
    in the same folder under a hidden name with a suffix no search for images or models picks up.
    """
    part = path.with_name(f".{path.stem[:40]}-{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
