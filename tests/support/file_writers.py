"""Everything that writes a file, in one table; and processes that die while they write.

A new writer is one more line in ``WRITERS``, and is then tested like the others.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from swinir_core.checkpoints.checkpoint import Checkpoint, write_checkpoint
from swinir_core.cli.output import write_json
from swinir_core.evaluation.test_sets import PixelPair
from swinir_core.network.config import SwinIRConfig
from swinir_core.network.swinir import SwinIR
from swinir_core.restoration.restorer import Restorer
from swinir_core.training.report import write_curves, write_rows, write_samples
from swinir_core.training.saves import write_state
from swinir_core.training.settings.files import find_config, read_config
from swinir_core.training.start import start_folder
from tests.support.image_files import Image, write_image
from tests.support.models import PretendModel

Write = Callable[[Path, int], object]
"""Writes a file whose contents depend on the number, and replaces one that is there."""

TINY = SwinIRConfig(1, 3, 12, (2,), (2,), 4, 2.0, "none")
_WEIGHTS = SwinIR(TINY).state_dict()
_CHECKPOINT = Checkpoint(TINY, _WEIGHTS)


def _image(path: Path, version: int) -> None:
    pixels = np.random.default_rng(version).random((9, 7, 3), np.float32)
    write_image(path, Image(pixels, 8, b"a profile"), overwrite=True)


def _samples(path: Path, version: int) -> None:
    pixels = np.random.default_rng(version).random((9, 7, 3), np.float32)
    # Threads of a network would not live in a forked process.
    restorer = Restorer(PretendModel(), "cpu", torch.float32)
    write_samples(path, restorer, [PixelPair(pixels, (pixels * 255).astype(np.uint8))])


def _rows(version: int) -> list[dict[str, float]]:
    return [{"step": step, "seconds": 1.0, "loss": version / step} for step in (1, 2, 3)]


def _settings(path: Path, version: int) -> None:
    given = {"data": (path.parent,), "out": path.parent, "steps": version}
    start_folder(read_config(find_config("laptop_denoise"), given))


WRITERS: dict[str, Write] = {
    "a.png": _image,
    "a.jpg": _image,
    "a.webp": _image,
    "a.tiff": _image,
    "a.safetensors": lambda path, version: write_checkpoint(
        path, _CHECKPOINT, (torch.float32, torch.float16)[version % 2]
    ),
    "a.json": lambda path, version: write_json(str(path), {"scores": [version] * 9}),
    "state.pt": lambda path, version: write_state(path, {"step": version, "model": _WEIGHTS}),
    "log.csv": lambda path, version: write_rows(path, _rows(version)),
    "curves.png": lambda path, version: write_curves(path, _rows(version)),
    "samples.png": _samples,
    "settings.toml": _settings,
}
"""By the name of a file that the writer takes."""

every_writer = pytest.mark.parametrize("name", WRITERS)
posix = pytest.mark.skipif(os.name != "posix", reason="of POSIX: fork, signals, limits, modes")


def versions(folder: Path, name: str) -> tuple[Path, bytes, bytes]:
    """A file as its writer wrote it first, those contents, and what it would write next."""
    path = folder / name
    contents = []
    for version in (2, 1):
        WRITERS[name](path, version)
        contents.append(path.read_bytes())
    assert contents[0] != contents[1]
    return path, contents[1], contents[0]


def cuts(contents: bytes) -> list[int]:
    return sorted({0, 1, len(contents) // 3, len(contents) - 1})


def visible(folder: Path) -> list[str]:
    """What a search finds that leaves out hidden files."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def forked(work: Callable[[], object]) -> int:
    """Do ``work`` in another process; its number. It ends with status 0, or 1 for an exception."""
    process = os.fork()
    if process:
        return process
    status = 1
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def ended(process: int) -> int:
    """The exit status of a process, or the number of the signal that ended it, negative."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
