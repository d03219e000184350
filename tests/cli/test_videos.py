"""``swinir restore`` on video files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from swinir_core.checkpoints.models import load_model
from swinir_core.cli import videos
from swinir_core.cli.main import main
from swinir_core.restoration.restorer import Restorer
from tests.support.videos import packets_of, pictures_of, times_of, write_video

EXACT = ("--crf", "0", "--pixel-format", "yuv444p")


def restore(model: str, *arguments: str) -> int:
    return main(["restore", *arguments, "--model", model])


def test_a_video_is_restored_with_its_sound(model: str) -> None:
    source = write_video(Path("in.mov"), 5, (32, 24), pixel_format="yuv444p", sound="aac")

    assert restore(model, "in.mov", "-o", "out.mp4", *EXACT) == 0

    out, pictures = Path("out.mp4"), torch.from_numpy(pictures_of(source)) / 255
    expected = Restorer(load_model(model))(pictures).numpy() * 255
    assert np.abs(pictures_of(out) - expected).max() < 4
    assert times_of(out) == times_of(source)
    assert packets_of(out, "audio") == packets_of(source, "audio")


@pytest.mark.parametrize(
    ("arguments", "target", "size"),
    [
        (["-o", "results"], "results/in.mp4", (48, 64)),
        (["-o", "out.mp4", "--longest", "41", "--reduce-flicker"], "out.mp4", (30, 42)),
        (["-o", "out.mp4", "--scale", "0.8", "--codec", "h265"], "out.mp4", (20, 26)),
    ],
)
def test_targets_and_sizes(
    model: str, arguments: list[str], target: str, size: tuple[int, int]
) -> None:
    write_video(Path("in.avi"), 2, (32, 24), "mpeg4")
    assert restore(model, "in.avi", *arguments) == 0
    assert pictures_of(Path(target)).shape == (2, *size, 3)


def test_images_and_videos_in_one_folder(model: str) -> None:
    write_video(Path("a.mp4"), 1, (16, 16))
    PIL.Image.new("RGB", (9, 8)).save("b.png")
    assert restore(model, "a.mp4", "b.png", "-o", "out") == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.mp4", "b.png"]


REFUSED = {
    "another kind": (["in.mp4", "-o", "out.mkv"], "videos are written as MP4"),
    "a picture": (["in.mp4", "-o", "out.png"], "videos are written as MP4"),
    "one file for two": (["in.mp4", "other.mp4", "-o", "out.mp4"], "but there are 2 files"),
    "over itself": (["in.mp4", "-o", "in.mp4"], "replaced by its own result"),
    "none": (["no.mp4", "-o", "out"], "no such file or folder"),
    "none by a pattern": (["no*.mp4", "-o", "out"], "no video file matches"),
    "no video": (["broken.mp4", "-o", "out"], "cannot be read as a video"),
    "codec": (
        ["in.mp4", "-o", "out", "--codec", "av1", "--pixel-format", "yuv444p"],
        "av1 does not take yuv444p",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_a_sentence(model: str, capsys: pytest.CaptureFixture[str], name: str) -> None:
    arguments, said = REFUSED[name]
    for file in ("in.mp4", "other.mp4"):
        write_video(Path(file), 1, (16, 16))
    Path("broken.mp4").write_bytes(b"hello")
    assert restore(model, *arguments) in (1, 2)
    assert said in capsys.readouterr().err
    assert not list(Path().glob("out*/*"))


def test_without_pyav(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.mp4").write_bytes(b"")
    for name in [name for name in sys.modules if name.startswith("swinir_core.video_files.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "av", None)
    assert restore(model, "in.mp4", "-o", "out.mp4") == 1
    assert "in.mp4 is a video, which PyAV reads; install it with pip install av." in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("existing", [False, True])
def test_a_stop_leaves_what_is_done_beside_the_target(
    model: str,
    existing: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_video(Path("in.mp4"), 9, (96, 96), sound="aac")
    if existing:
        Path("out.mp4").write_bytes(b"before")
    restore_to_size, calls = videos.restore_to_size, []

    def stopping(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return restore_to_size(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(videos, "restore_to_size", stopping)

    assert restore(model, "in.mp4", "-o", "out.mp4", "--overwrite") == 130

    assert "what is done is in out-first-3-frames.mp4" in capsys.readouterr().err
    assert len(times_of(Path("out-first-3-frames.mp4"))) == 3
    assert Path("out.mp4").exists() == existing
    assert not existing or Path("out.mp4").read_bytes() == b"before"
    assert not list(Path().glob(".swinir*"))
