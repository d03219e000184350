"""Names on different systems: those Windows keeps, two that are one, how they are printed."""

from __future__ import annotations

from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import numpy as np
import pytest

from swinir_core import files
from swinir_core.cli.options import UsageError
from swinir_core.errors import CheckpointError, ImageError, WriteError
from swinir_core.file_names import folded, windows_fault
from swinir_core.files import check_target
from swinir_core.image_files.finding import plan_outputs
from swinir_core.model_names import check_name
from swinir_core.text import listed, shown
from tests.support.image_files import Image, write_image

# What Windows makes of names

WINDOWS_FAULTS = {
    # name: reason
    "CON": "Windows keeps the name 'CON' for a device",
    "nul.png": "Windows keeps the name 'nul.png' for a device",
    "COM1.png": "Windows keeps the name 'COM1.png' for a device",
    "lpt¹.tar.png": "Windows keeps the name 'lpt¹.tar.png' for a device",
    "aux .png": "Windows keeps the name 'aux .png' for a device",
    "CONIN$": "Windows keeps the name 'CONIN$' for a device",
    "name.": "Windows drops the dot or space at the end of 'name.'",
    "name ": "Windows drops the dot or space at the end of 'name '",
    "a:b.png": "Windows takes no ':' in names",
    "a<b>.png": "Windows takes no '<' in names",
    'say "hi".png': "Windows takes no '\"' in names",
    "what?.png": "Windows takes no '?' in names",
    "a*.png": "Windows takes no '*' in names",
    "a|b.png": "Windows takes no '|' in names",
    "a\tb.png": "Windows takes no '\\t' in names",
}


@pytest.mark.parametrize("name", WINDOWS_FAULTS)
def test_names_that_windows_does_not_take(name: str) -> None:
    for path in (
        PurePosixPath("out", name),
        PurePosixPath("/out", name, "a.png"),
        PureWindowsPath(f"C:\\out\\{name}"),
        PureWindowsPath(f"..\\{name}\\a.png"),
    ):
        assert windows_fault(path) == WINDOWS_FAULTS[name]
    # Models' names travel between machines, so they are refused on every one.
    with pytest.raises(ValueError):
        check_name(f"models/{name}/model")


@pytest.mark.parametrize(
    "path",
    [
        PureWindowsPath(r"C:\pictures\a.png"),
        PureWindowsPath(r"\\server\share\a.png"),
        PureWindowsPath(r"\\?\C:\pictures\a.png"),
        PureWindowsPath(r"..\.\console\com10.png"),
        PureWindowsPath("C:a.png"),
        PurePosixPath("/home/图像/.hidden/a b.png"),
        PurePosixPath(),
    ],
    ids=str,
)
def test_names_that_windows_takes(path: PurePath) -> None:
    assert windows_fault(path) is None


def test_on_windows_such_names_are_refused_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "NUL.png"
    check_target(path)
    monkeypatch.setattr(files, "WINDOWS", True)
    with pytest.raises(WriteError, match=r"Windows keeps the name 'NUL\.png' for a device; choose"):
        check_target(path)
    with pytest.raises(ImageError, match=r"Windows keeps the name 'NUL\.png' for a device; choose"):
        write_image(path, Image(np.zeros((2, 2, 3), np.float32)))
    assert not list(tmp_path.iterdir())


# Two names of one file

PAIRS = {
    "capitals": ("A.png", "a.png"),
    "a capital folder": ("Trip/a.png", "trip/a.png"),
    "composed": ("caf\u00e9.png", "cafe\u0301.png"),
    "both": ("CAF\u00c9.png", "cafe\u0301.png"),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_results_that_a_file_system_may_take_for_one_are_refused(tmp_path: Path, pair: str) -> None:
    found = [(Path("somewhere", str(n), name), Path(name)) for n, name in enumerate(PAIRS[pair])]
    with pytest.raises(ImageError, match=r"both be written to .*, which many disks take for one"):
        plan_outputs(found, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_names_that_no_file_system_takes_for_one() -> None:
    assert folded("a.png") != folded("b.png")
    found = [(Path("1/a.png"), Path("a.png")), (Path("2/b.png"), Path("b.png"))]
    assert len(plan_outputs(found, Path("out"))) == 2


def test_a_result_in_the_place_of_another_spelling_of_an_input_is_refused() -> None:
    found = [(Path("b.png"), Path("a.png")), (Path("out/A.png"), Path("c.png"))]
    with pytest.raises(ImageError, match=r"a\.png is itself to be restored"):
        plan_outputs(found, Path("out"))


def test_an_image_may_be_replaced_by_another_spelling_of_its_name() -> None:
    assert plan_outputs([(Path("out/A.png"), Path("a.png"))], Path("out"))


# How names are printed


def test_a_name_is_shown_in_one_line() -> None:
    assert shown("a\nb\r\t\x1b[31m\x7f\u2028\udce9") == r"a\nb\r\t\x1b[31m\x7f\u2028\udce9"
    plain = "图像 e\u0301 🎨👩‍🚀 שלום a\u00a0b \\n"
    assert shown(Path(plain)) == plain
    for error in (ImageError, CheckpointError, WriteError, UsageError):
        assert str(error("a\nb is damaged.")) == r"a\nb is damaged."


def test_what_is_shown_can_be_limited() -> None:
    assert shown("x" * 9, 9) == "x" * 9
    assert shown("\x1b" * 10**6, 3) == r"\x1b\x1b\x1b…"
    assert listed([]) == ""
    assert listed(["a\nb", Path("c")]) == r"a\nb, c"
    assert listed([*"abcdefg"]) == "a, b, c, d, e and 2 more"
