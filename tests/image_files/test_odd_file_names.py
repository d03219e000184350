"""Files whose names are of any script, of any length, not UTF-8, or like something else."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from swinir_core.checkpoints.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from swinir_core.cli.main import main
from swinir_core.errors import CheckpointError, ImageError
from swinir_core.image_files.finding import find_images
from swinir_core.network.config import SwinIRConfig
from swinir_core.network.swinir import SwinIR
from swinir_core.text import shown
from tests.support.image_files import Image, read_image, write_image

TINY = SwinIRConfig(2, 3, 12, (2,), (2,), 4, 2.0, "pixelshuffledirect")

NAMES = {
    "Chinese": "图像",
    "emoji": "🎨👩‍🚀",
    "combining": "e\u0301",
    "right to left": "שלום",
    "not UTF-8": "caf\udce9",
    "line break": "line\nbreak",
    "line separator": "line\u2028break",
    "escape": "\x1b[31mred",
    "dash": "-dash",
    "spaces": " two  words ",
    "quotes": 'it\'s "q"',
    "pattern": "[a-z]*?",
    "format": "%s{0}$HOME",
    "home": "~",
    "255 bytes": "x" * 251,
    "255 bytes of two each": "ü" * 125,
    "255 bytes of four each": "🎨" * 62,
}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model file in the working folder, which holds nothing else."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    write_checkpoint("tiny.safetensors", Checkpoint(TINY, SwinIR(TINY).state_dict()))
    return "tiny.safetensors"


def restore(model: str, *arguments: str) -> int:
    return main(["restore", *arguments, "--model", model, "--device", "cpu"])


def picture(path: Path) -> None:
    """Skips the test where the system has no such names."""
    try:
        write_image(path, Image(np.zeros((3, 4, 3), np.float32)))
    except ImageError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_read_written_and_printed(
    model: str, name: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Path("set", f"{NAMES[name]}.png")
    empty = Path("set", "inner", source.name)
    picture(source)
    empty.parent.mkdir()
    empty.touch()
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding) for _ in range(2))
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        assert restore(model, "set", "-o", "out") == 1
    assert read_image(Path("out", source.name)).pixels.shape == (6, 8, 3)
    assert printed(out, encoding)[0].startswith(
        as_printed(
            f"{shown(source)} (4 x 3) -> {shown(Path('out', source.name))} (8 x 6)", encoding
        )
    )
    assert printed(err, encoding) == [
        as_printed(f"swinir: error: {shown(empty)} is an empty file.", encoding),
        "swinir: 1 failed, see above.",
    ]
    assert len(printed(out, encoding)) == 1


def printed(stream: io.TextIOWrapper, encoding: str) -> list[str]:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(encoding).splitlines()


def as_printed(text: str, encoding: str) -> str:
    """What an encoding has of a text, backslash escapes for the rest."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


@pytest.mark.parametrize("arguments", [["./-a.png"], ["--", "-a.png"]])
def test_a_name_that_begins_like_an_option(model: str, arguments: list[str]) -> None:
    picture(Path("-a.png"))
    assert main(["restore", "-o", "out", "--model", model, "--device", "cpu", *arguments]) == 0
    assert Path("out/-a.png").exists()


def test_a_name_that_gets_too_long_fails_alone(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    long, short = Path("set", "x" * 251 + ".png"), Path("set/a.png")
    for path in (long, short):
        picture(path)
    assert restore(model, "set", "-o", "out", "--format", "webp") == 1
    assert os.listdir("out") == ["a.webp"]  # noqa: PTH208
    error = f"{Path('out', long.name).with_suffix('.webp')} cannot be written: File name too long."
    assert error in capsys.readouterr().err
    assert restore(model, "y" * 300, "set/a.png", "-o", "other") == 1
    assert "File name too long." in capsys.readouterr().err
    assert Path("other/a.png").exists()
    assert restore(model, "set", "-o", "z" * 300) == 2
    assert "File name too long." in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="links need a privilege on Windows")
def test_links_in_a_circle_are_no_images(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    picture(Path("set/a.png"))
    Path("set/b.png").symlink_to("b.png")
    Path("out").mkdir()
    Path("out/a.png").symlink_to("a.png")
    assert [str(inside) for _, inside in find_images(["set"], Path("out"))] == ["a.png"]
    assert restore(model, "set", "-o", "out") == 1
    assert "out/a.png cannot be written: its links lead in a circle." in capsys.readouterr().err


def test_model_files_of_any_name(model: str) -> None:
    for name in NAMES.values():
        path = Path(f"{name[:50]}.safetensors")
        try:
            path.write_bytes(Path(model).read_bytes())
        except OSError as error:
            pytest.skip(str(error))
        if shown(name).endswith("udce9"):
            with pytest.raises(CheckpointError, match=r"opens only paths that are UTF-8; rename"):
                read_checkpoint(path)
        else:
            assert read_checkpoint(path).config == TINY
        torch.save(read_checkpoint(model).state_dict, "weights.pth")
        assert read_checkpoint(Path("weights.pth").rename(path.with_suffix(".pth"))).config == TINY


def test_every_command_shows_names_in_one_line(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, seen = "a\nb", r"a\nb"
    picture(Path(f"{name}.png"))
    assert main(["convert", model, f"{name}.safetensors"]) == 0
    assert main(["info", f"{name}.safetensors"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{model} (")
    assert f" -> {seen}.safetensors (" in lines[0]
    assert lines[1] == f"file             {seen}.safetensors"

    write_image(Path(name, f"{name}.png"), Image(np.full((16, 16, 3), 0.5, np.float32)))
    picture(Path(name, f"{name}2.png"))
    evaluate = ["evaluate", "--data", name, "--model", f"{name}.safetensors", "--device", "cpu"]
    assert main(evaluate) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(f"swinir: error: {Path(seen, seen)}2.png is too small")
    assert printed.out.startswith(f"{seen}.safetensors on {seen}: ")
    assert [line.split()[0] for line in printed.out.splitlines()[3:5]] == [f"{seen}.png", "mean"]
