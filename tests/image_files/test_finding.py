"""Files that a command reads, and places of the results."""

from pathlib import Path

import pytest

from swinir_core.errors import ImageError
from swinir_core.image_files.finding import find_images, plan_outputs
from swinir_core.image_files.picture import FORMATS, READ_ONLY


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder; only the names of the files matter."""
    for name in (
        "one.png",
        "TWO.JPG",
        "notes.txt",
        "scan [1].tif",
        "photos/a.webp",
        "photos/b.jpeg",
        "photos/.hidden.png",
        "photos/.swinir-1-ab.part",
        "photos/readme.md",
        "photos/trip [x]/c.tiff",
        "photos/trip [x]/.thumbnails/c.png",
        "photos/results/a.webp",
        "empty/readme.md",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


FOUND = {
    # name: inputs, sources, names inside the output
    "a file": (["one.png"], ["one.png"], ["one.png"]),
    "a suffix in capitals": (["TWO.JPG"], ["TWO.JPG"], ["TWO.JPG"]),
    "a file in a folder": (["photos/a.webp"], ["photos/a.webp"], ["a.webp"]),
    "a folder": (
        ["photos"],
        ["photos/a.webp", "photos/b.jpeg", "photos/trip [x]/c.tiff"],
        ["a.webp", "b.jpeg", "trip [x]/c.tiff"],
    ),
    "brackets in a name that exists": (["scan [1].tif"], ["scan [1].tif"], ["scan [1].tif"]),
    "a pattern": (["*.png"], ["one.png"], ["one.png"]),
    "a pattern that also matches other files": (
        ["*"],
        ["TWO.JPG", "one.png", "scan [1].tif"],
        ["TWO.JPG", "one.png", "scan [1].tif"],
    ),
    "a pattern in a folder with brackets": (
        ["photos/trip [x]/*.tiff"],
        ["photos/trip [x]/c.tiff"],
        ["c.tiff"],
    ),
    "a pattern of any depth": (
        ["photos/**/*.[tw]*"],
        ["photos/a.webp", "photos/trip [x]/c.tiff"],
        ["a.webp", "trip [x]/c.tiff"],
    ),
    "brackets as a pattern": (["[a-z]ne.png"], ["one.png"], ["one.png"]),
}


@pytest.mark.parametrize("name", FOUND)
def test_files_folders_and_patterns_are_found(tree: Path, name: str) -> None:
    inputs, sources, inside = FOUND[name]
    expected = [(Path(a), Path(b)) for a, b in zip(sources, inside, strict=True)]
    assert find_images(inputs, Path("photos/results")) == expected


def test_absolute_patterns_are_found(tree: Path) -> None:
    assert find_images([str(tree / "*.png")]) == [(tree / "one.png", Path("one.png"))]


def test_a_folder_inside_the_output_is_read(tree: Path) -> None:
    assert len(find_images(["photos/trip [x]"], Path())) == 1


NOT_FOUND = {
    "missing file": ("gone.png", "gone.png: no such file"),
    "no image": ("notes.txt", "notes.txt: the name must end in one of .png"),
    "folder without images": ("empty", "empty: no PNG, JPEG, WebP or TIFF"),
    "pattern without match": ("*.webp", "no PNG, JPEG, WebP or TIFF file matches"),
}


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_leads_nowhere_is_said(tree: Path, name: str) -> None:
    argument, reason = NOT_FOUND[name]
    with pytest.raises(ImageError, match=reason):
        find_images([argument])


PLANNED = {
    # name: inputs, output, suffix, targets
    "folder": (["one.png", "TWO.JPG"], "out", None, ["out/one.png", "out/TWO.JPG"]),
    "file": (["one.png"], "out.tif", None, ["out.tif"]),
    "file in a folder": (["one.png"], "new/out.tif", None, ["new/out.tif"]),
    "folder with a dot": (["one.png"], "out.v2", None, ["out.v2/one.png"]),
    "inner folders stay": (
        ["photos"],
        "photos/results",
        None,
        ["photos/results/a.webp", "photos/results/b.jpeg", "photos/results/trip [x]/c.tiff"],
    ),
    "another format": (["one.png", "TWO.JPG"], "out", ".webp", ["out/one.webp", "out/TWO.webp"]),
    "named twice": (["one.png", "./one.png", "*.png"], "out", None, ["out/one.png"]),
    "in place": (["one.png"], ".", None, ["one.png"]),
}


@pytest.mark.parametrize("name", PLANNED)
def test_every_image_has_its_target(tree: Path, name: str) -> None:
    inputs, output, suffix, targets = PLANNED[name]
    plan = plan_outputs(find_images(inputs, Path(output)), Path(output), suffix)
    assert [target for _, target in plan] == [Path(target) for target in targets]


IMPOSSIBLE = {
    # name: inputs, output, suffix, what the message says
    "two images, one target": (
        ["photos/a.webp", "photos/results/a.webp"],
        "out",
        None,
        r"photos/a\.webp and photos/results/a\.webp would both",
    ),
    "a GIF beside a PNG": (
        ["one.gif", "one.png"],
        "out",
        None,
        r"one\.gif and one\.png would both be written to out.one\.png; restore them into separate",
    ),
    "two formats become one": (["one.png", "one.jpg"], "out", ".tiff", "would both"),
    "several images, one file": (["one.png", "TWO.JPG"], "out.png", None, "2 images"),
    "a target still to be read": (
        ["photos/a.webp", "photos/results"],
        "photos/results",
        None,
        "itself to be restored",
    ),
    "a file is in the way": (["one.png"], "notes.txt", None, "not a folder"),
    "a file above the output": (
        ["one.png"],
        "TWO.JPG/new/out.png",
        None,
        "TWO.JPG is not a folder",
    ),
    "a file above the folder": (["one.png"], "notes.txt/out", None, "notes.txt is not a folder"),
    "a format that is not written": (["one.png"], "out.bmp", None, "must end in one of"),
    "name and format disagree": (["one.png"], "out.png", ".webp", "not a WebP name"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_a_plan_that_would_lose_something_is_refused(tree: Path, name: str) -> None:
    for other in ("one.jpg", "one.gif"):
        (tree / other).touch()
    inputs, output, suffix, reason = IMPOSSIBLE[name]
    with pytest.raises(ImageError, match=reason):
        plan_outputs(find_images(inputs, None, [*FORMATS, *READ_ONLY]), Path(output), suffix)


def test_the_only_image_of_a_folder_may_be_replaced_by_its_result(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    found = find_images([str(tmp_path)], path)
    assert plan_outputs(found, path) == [(path, path)]
