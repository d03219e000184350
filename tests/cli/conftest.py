"""A tiny model for the command."""

from pathlib import Path

import pytest
import torch

from swinir_core import Checkpoint, SwinIR, write_checkpoint
from tests.support.reference import TINY


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model file in the working folder, which holds nothing else."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    weights = SwinIR(TINY).state_dict()
    write_checkpoint("tiny.safetensors", Checkpoint(TINY, weights, {"author": "a test"}))
    return "tiny.safetensors"
