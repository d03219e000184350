"""Reading a stranger's model file takes no memory for another network's weights, keeps none of the
file mapped, and raises ``CheckpointError`` or passes an interrupt on."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from swinir_core import Checkpoint, read_checkpoint
from swinir_core.checkpoints.checkpoint import write_checkpoint
from tests.support.hostile import CONFIG, WEIGHTS, refused, safetensors, saved


@pytest.mark.skipif(sys.platform != "linux", reason="sparse files and mappings as Linux shows them")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_large_file_of_another_network_is_not_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"diffusion{suffix}"
    count = 2**30
    name = "model.diffusion_model.input_blocks.0.0.weight"
    if suffix == ".safetensors":
        entry = {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}
        safetensors(path, json.dumps({name: entry}).encode())
        os.truncate(path, path.stat().st_size + 4 * count)
    else:
        with torch.serialization.skip_data():
            torch.save({"state_dict": {name: torch.empty(count)}}, path)
    assert path.stat().st_size > 4 * count
    refused(path, "a diffusion checkpoint")
    path.unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="mappings as Linux shows them")
@pytest.mark.parametrize("kind", ["archive.pth", "stream.pth", "model.safetensors"])
def test_nothing_stays_mapped(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    if path.suffix == ".safetensors":
        write_checkpoint(path, Checkpoint(CONFIG, WEIGHTS))
    else:
        saved(WEIGHTS, path, legacy=kind.startswith("stream"))
    checkpoint = read_checkpoint(path)
    assert str(path) not in Path("/proc/self/maps").read_text()
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert all(torch.equal(checkpoint.state_dict[k], w) for k, w in WEIGHTS.items())


def test_memory_that_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    path = saved(WEIGHTS, tmp_path / "large.pth")
    monkeypatch.setattr(torch.Tensor, "clone", fail)
    refused(path, "do not fit into the memory")


@pytest.mark.parametrize("error", [RecursionError, NotImplementedError, OverflowError, KeyError])
def test_no_other_exception_escapes(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise error("some\nreason")

    path = saved(WEIGHTS, tmp_path / "odd.pth")
    with monkeypatch.context() as patch:
        patch.setattr("swinir_core.checkpoints.checkpoint._check_weights", fail)
        refused(path, "some")
    monkeypatch.setattr("swinir_core.checkpoints.containers._dictionaries", fail)
    refused(path)


@pytest.mark.parametrize("place", ["checkpoint._check_weights", "containers._dictionaries"])
def test_an_interrupt_passes(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    path = saved(WEIGHTS, tmp_path / "model.pth")
    monkeypatch.setattr(f"swinir_core.checkpoints.{place}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_checkpoint(path)
