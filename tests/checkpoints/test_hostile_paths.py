"""Model files under names of every script, and paths that are no files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swinir_core import Checkpoint, CheckpointError, read_checkpoint
from swinir_core.checkpoints.checkpoint import write_checkpoint
from tests.support.hostile import CONFIG, WEIGHTS, check_loaded, refused, saved

NAMES = [
    "模型",
    "モデル",
    "모델",
    "модель",
    "μοντέλο",
    "דגם",
    "نموذج",
    "मॉडल",
    "แบบ",
    "ሞዴል",
    "modèle",
]
NAMES += [
    "🖼️✨",
    "👩‍👩‍👧‍👦",
    "a b",
    "a.b.c",
    "%s{0}$HOME",
    "e\u0301",
    "\u202egnp",
    "'\"`;&|",
    "-rf",
    "x" * 200,
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_names_in_every_script(name: str, suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / name[:20]
    folder.mkdir()
    path = folder / f"{name}{suffix}"
    if suffix == ".pth":
        path.write_bytes(saved(WEIGHTS, tmp_path / "plain.pth").read_bytes())
    else:
        write_checkpoint(path, Checkpoint(CONFIG, WEIGHTS))
    check_loaded(read_checkpoint(path))
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file(suffix: str, tmp_path: Path) -> None:
    model = saved(WEIGHTS, tmp_path / "real.pth")
    if suffix == ".safetensors":
        model = tmp_path / "real.safetensors"
        write_checkpoint(model, Checkpoint(CONFIG, WEIGHTS))
    link = tmp_path / f"link{suffix}"
    try:
        link.symlink_to(model)
    except OSError:
        pytest.skip("no symbolic links here")
    check_loaded(read_checkpoint(link))
    dangling, one, other = (tmp_path / f"{n}{suffix}" for n in ("dangling", "one", "other"))
    dangling.symlink_to(tmp_path / "nowhere")
    one.symlink_to(other)
    other.symlink_to(one)
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    linked_folder = tmp_path / f"linked{suffix}"
    linked_folder.symlink_to(folder)
    for path in (dangling, one, other, folder, linked_folder, model / f"below{suffix}"):
        refused(path)
    for path in (tmp_path / f"null\0{suffix}", tmp_path / ("x" * 300 + suffix)):
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    if hasattr(os, "mkfifo"):
        pipe, device = tmp_path / f"pipe{suffix}", tmp_path / f"device{suffix}"
        os.mkfifo(pipe)
        device.symlink_to("/dev/zero")
        refused(pipe, "not a file of data")
        refused(device, "not a file of data")
