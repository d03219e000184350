"""A file that cannot be written is said in one sentence, and everything else stays as it was."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest
import torch

from swinir_core.checkpoints.checkpoint import Checkpoint, write_checkpoint
from swinir_core.cli.main import main
from swinir_core.errors import ImageError, WriteError
from swinir_core.files import check_target, replacing
from swinir_core.image_files.finding import plan_outputs
from swinir_core.image_files.writing import check_writable
from swinir_core.network.config import SwinIRConfig
from swinir_core.network.swinir import SwinIR
from tests.support.file_writers import WRITERS, cuts, every_writer, posix, versions
from tests.support.image_files import Image, read_image, write_image

RESTORE = ["restore", "--model", "tiny.safetensors", "--device", "cpu"]

if sys.platform != "win32":
    import resource


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    return path


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a disk that is full after so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@posix
@every_writer
def test_a_full_disk(folder: Path, name: str) -> None:
    path, old, new = versions(folder, name)
    for size in cuts(new):
        with pytest.raises((ImageError, WriteError)) as caught, largest_file(size):
            WRITERS[name](path, 2)
        assert str(caught.value) == f"{path} cannot be written: File too large."
        assert path.read_bytes() == old
        assert [entry.name for entry in folder.iterdir()] == [name]
    path.unlink()
    with pytest.raises((ImageError, WriteError)), largest_file(1):
        WRITERS[name](path, 2)
    assert not list(folder.iterdir())


@every_writer
def test_a_disk_that_fails_at_last(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, old, _ = versions(folder, name)

    def fsync(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(
        (ImageError, WriteError), match=r" cannot be written: Input/output error\.$"
    ):
        WRITERS[name](path, 2)
    assert path.read_bytes() == old
    assert [entry.name for entry in folder.iterdir()] == [name]


REFUSED = {
    # case: target inside the folder, what is not allowed to be written, reason
    "a folder has the name": ("taken", "", "it is a folder"),
    "a device has the name": ("device", "", "it is not an ordinary file"),
    "a file is the folder": ("file/a", "", "{folder}/file is not a folder"),
    "a file is above the folder": ("file/inner/a", "", "{folder}/file is not a folder"),
    "a read-only file": ("file", "file", "it is read-only"),
    "a read-only folder": ("a", "", "the folder {folder} is read-only"),
    "a read-only folder above": ("inner/a", ".", "the folder {folder} is read-only"),
    "a link into a read-only folder": ("link", ".", "the folder {folder} is read-only"),
    "a long name": ("x" * 300, "", "File name too long"),
    "a long name in a missing folder": ("inner/" + "x" * 300, "", "File name too long"),
    "a long folder": ("x" * 300 + "/a", "", "File name too long"),
    "a circle of links": ("circle", "", "its links lead in a circle"),
}


@posix
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_written_is_said_beforehand(
    folder: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, read_only, reason = REFUSED[case]
    read_only = "." if case == "a read-only folder" else read_only
    (folder / "taken").mkdir()
    (folder / "file").touch()
    (folder / "device").symlink_to("/dev/null")
    (folder / "link").symlink_to("inner/a")
    (folder / "circle").symlink_to("circle")
    before = sorted(folder.rglob("*"))
    # Permissions do not hold for root, who may run this.
    forbidden = [folder / read_only] if read_only else []
    monkeypatch.setattr(os, "access", lambda path, _: path not in forbidden)
    path = folder / target
    for write in (check_target, lambda path: WRITERS["a.json"](path, 1)):
        with pytest.raises(WriteError) as caught:
            write(path)
        expected = f"{path} cannot be written: {reason.format(folder=folder)}."
        assert str(caught.value) == expected
    assert sorted(folder.rglob("*")) == before


@every_writer
def test_a_read_only_file_is_kept(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, old, _ = versions(folder, name)
    monkeypatch.setattr(os, "access", lambda wanted, _: wanted != path)
    with pytest.raises((ImageError, WriteError), match=r" cannot be written: it is read-only\.$"):
        WRITERS[name](path, 2)
    assert path.read_bytes() == old


def test_a_picture_that_could_not_be_written_need_not_be_restored(folder: Path) -> None:
    (folder / "a.png").mkdir()
    with pytest.raises(ImageError, match=r"a\.png cannot be written: it is a folder\.$"):
        check_writable(folder / "a.png", (1, 1, 3))


@every_writer
def test_a_folder_in_the_place_of_a_file_is_kept(folder: Path, name: str) -> None:
    path = folder / name
    path.mkdir()
    with pytest.raises((ImageError, WriteError), match=r" cannot be written: it is a folder\.$"):
        WRITERS[name](path, 2)
    assert path.is_dir()


@every_writer
def test_missing_folders_are_made(folder: Path, name: str) -> None:
    _, _, new = versions(folder, name)
    again = folder / "a" / "b" / name
    WRITERS[name](again, 2)
    assert again.exists()
    assert name == "settings.toml" or again.read_bytes() == new


def test_a_folder_deleted_in_the_middle_is_said(folder: Path) -> None:
    path = folder / "inner" / "a.txt"

    def write() -> None:
        with replacing(path) as part:
            part.write_text("new")
            part.unlink()
            path.parent.rmdir()

    with pytest.raises(WriteError, match=r"a\.txt cannot be written: No such file or directory\.$"):
        write()
    assert not list(folder.iterdir())


def test_a_cancelled_write_leaves_nothing(folder: Path) -> None:
    def write() -> None:
        with replacing(folder / "a.txt") as part:
            part.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert not list(folder.iterdir())


# Restoring files


@pytest.fixture
def pictures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A model and a folder ``set`` of three pictures, the second one larger, and their contents."""
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    config = SwinIRConfig(2, 3, 12, (2,), (2,), 4, 2.0, "pixelshuffledirect")
    write_checkpoint("tiny.safetensors", Checkpoint(config, SwinIR(config).state_dict()))
    rng = np.random.default_rng(0)
    for name, side in (("a", 9), ("b", 60), ("c", 9)):
        write_image(f"set/{name}.png", Image(rng.random((side, side, 3), np.float32)))
    return {path.name: path.read_bytes() for path in Path("set").iterdir()}


@posix
@pytest.mark.parametrize("in_place", [True, False])
def test_a_picture_that_does_not_fit_the_disk_fails_alone(
    pictures: dict[str, bytes], in_place: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path("set" if in_place else "out")
    with largest_file(4000):
        assert main([*RESTORE, "set", "-o", str(out), "--overwrite"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"swinir: error: {out / 'b.png'} cannot be written: File too large.",
        "swinir: 1 failed, see above.",
    ]
    names = {path.name for path in out.iterdir()}
    assert names == ({"a.png", "b.png", "c.png"} if in_place else {"a.png", "c.png"})
    assert all(read_image(out / name).pixels.shape == (18, 18, 3) for name in ("a.png", "c.png"))
    assert Path("set/b.png").read_bytes() == pictures["b.png"]


def test_a_picture_restored_in_place_keeps_what_belongs_to_it(pictures: dict[str, bytes]) -> None:
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Artist] = "somebody"
    with PIL.Image.open("set/b.png") as picture:
        picture.save("b.jpg", exif=exif, icc_profile=b"a profile")
    Path("b.jpg").chmod(0o640)
    mode = Path("b.jpg").stat().st_mode
    assert main([*RESTORE, "b.jpg", "-o", "b.jpg", "--overwrite"]) == 0
    with PIL.Image.open("b.jpg") as picture:
        assert picture.size == (120, 120)
        assert picture.info["icc_profile"] == b"a profile"
        assert picture.getexif()[PIL.ExifTags.Base.Artist] == "somebody"
    assert Path("b.jpg").stat().st_mode == mode


@pytest.mark.parametrize("option", [[], ["--resume"], ["--overwrite"]])
def test_a_folder_is_neither_a_result_nor_replaced(
    pictures: dict[str, bytes], option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out/b.png").mkdir(parents=True)
    assert main([*RESTORE, "set", "-o", "out", *option]) == 1
    assert f"{Path('out/b.png')} cannot be written: it is a folder." in capsys.readouterr().err
    assert Path("out/a.png").is_file()
    assert Path("out/b.png").is_dir()


def test_a_finished_result_may_be_read_only(
    pictures: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([*RESTORE, "set", "-o", "out"]) == 0
    Path("out/c.png").unlink()
    monkeypatch.setattr(os, "access", lambda path, _: Path(path).suffix != ".png")
    assert main([*RESTORE, "set", "-o", "out", "--resume"]) == 0


def test_a_run_removes_what_one_killed_days_before_left(pictures: dict[str, bytes]) -> None:
    Path("out").mkdir()
    left = Path("out/.swinir-0123456789abcdef.part")
    left.touch()
    os.utime(left, (0, 0))
    assert main([*RESTORE, "set/c.png", "-o", "out"]) == 0
    assert [path.name for path in Path("out").iterdir()] == ["c.png"]


@pytest.mark.parametrize("command", ["evaluate", "benchmark"])
def test_a_report_that_could_not_be_written_is_refused_beforehand(
    folder: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.json").mkdir()
    data = ["--data", str(folder)] if command == "evaluate" else []
    with pytest.raises(SystemExit, match="2"):
        main([command, *data, "--json", str(folder / "a.json")])
    assert "a.json cannot be written: it is a folder." in capsys.readouterr().err


def test_a_drive_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "exists", lambda *_: False)
    with pytest.raises(WriteError, match="there is no"):
        check_target(tmp_path / "a.png")
    with pytest.raises(ImageError, match="there is no"):
        plan_outputs([(Path("a.png"), Path("a.png"))], tmp_path)
