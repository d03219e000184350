"""Fixtures of all training tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from tests.training.runs import save_photograph


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """Every test of a training."""


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """accelerate keeps device and precision for the life of a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with ``photographs``, three of them, and ``others``, one to validate on."""
    for index in range(3):
        save_photograph(tmp_path / "photographs" / f"{index}.png", seed=index)
    save_photograph(tmp_path / "others" / "3.png", seed=3)
    return tmp_path
