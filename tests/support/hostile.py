"""Tools of the tests of hostile model files: a tiny model, ways to damage its file, and bounds."""

from __future__ import annotations

import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swinir_core import Checkpoint, CheckpointError, SwinIR, SwinIRConfig, read_checkpoint

CONFIG = SwinIRConfig(
    scale=2,
    in_channels=3,
    embed_dim=12,
    depths=(2, 1),
    num_heads=(2, 3),
    window_size=2,
    mlp_ratio=2.0,
    upsampler="pixelshuffledirect",
)
WEIGHTS: dict[str, Tensor] = {
    key: torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    for key, parameter in SwinIR(CONFIG, device="meta").state_dict().items()
}
LAYER = "layers.0.residual_group.blocks.0."
SECONDS, MEGABYTES = 20.0, 400


@contextmanager
def bounded(seconds: float = SECONDS) -> Iterator[None]:
    """Fails where the block takes long, or (where that can be seen) much memory for a moment."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def read(field: str) -> int:
        return int(status.read_text().split(f"{field}:")[1].split()[0]) // 1024

    seen = os.access(clear, os.W_OK)
    if seen:
        clear.write_text("5")
        before = read("VmRSS")
    began = time.process_time()  # Other programs take none of it.
    yield
    assert time.process_time() - began < seconds
    if seen:
        assert read("VmHWM") - before < MEGABYTES  # pyright: ignore[reportPossiblyUnbound]


def refused(path: Path, words: str = ".") -> str:
    """The message about a file that must not load."""
    with bounded(), pytest.raises(CheckpointError, match=words) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert path.name in message
    assert message.isprintable()
    assert len(message) < 1000
    return message


def check_loaded(checkpoint: Checkpoint) -> None:
    """Its weights are those of the network it says it is, and nothing is mapped."""
    expected = SwinIR(checkpoint.config, device="meta").state_dict()
    assert checkpoint.state_dict.keys() == expected.keys()
    for key, weight in checkpoint.state_dict.items():
        assert weight.shape == expected[key].shape
        assert weight.is_floating_point()
        assert weight.is_contiguous()
        assert weight.isfinite().all()


def saved(contents: Any, path: Path, legacy: bool = False, protocol: int = 2) -> Path:
    torch.save(contents, path, pickle, protocol, not legacy)
    return path


def rezipped(path: Path, change: Callable[[str, bytes], bytes], method: int = 0) -> Path:
    """``path`` with other contents of its records."""
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in records.items():
            archive.writestr(name, change(name, content))
    return path


def with_pickle(path: Path, pickled: bytes) -> Path:
    """A zip file of torch.save with another pickle in it."""
    saved(WEIGHTS, path)
    return rezipped(path, lambda name, data: pickled if name.endswith("data.pkl") else data)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def safetensors(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path
