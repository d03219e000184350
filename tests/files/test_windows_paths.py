"""Names and paths as Windows has them, on any system.

``WindowsPath`` is ``PureWindowsPath`` with a few folders and files that it finds.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from swinir_core import model_names
from swinir_core.checkpoints import models
from swinir_core.file_names import windows_fault
from swinir_core.image_files import finding as image_files
from swinir_core.image_files.picture import FORMATS
from swinir_core.model_names import check_name
from swinir_core.training import data as training_data
from swinir_core.training.data import Patches, Photos
from swinir_core.training.settings.settings import as_toml
from swinir_core.training.tasks import build_task
from tests.support.stub_host import nodes_without_host
from tests.training.runs import save_photograph, tiny_config

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LISTED: list[str] = []
"""Names that the host lists."""

MODELS = PureWindowsPath(r"C:\ComfyUI\models\swinir")


class WindowsPath(PureWindowsPath):
    """On a disk C: and a share."""

    folders: ClassVar[set[str]] = set()
    files: ClassVar[set[str]] = set()

    def is_dir(self) -> bool:
        return self in map(WindowsPath, self.folders)

    def is_file(self) -> bool:
        return self in map(WindowsPath, self.files)

    def exists(self) -> bool:
        return self.is_dir() or self.is_file()

    def glob(self, _: str) -> list[WindowsPath]:
        return []

    def absolute(self) -> WindowsPath:
        return self


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> type[WindowsPath]:
    monkeypatch.setattr(image_files, "Path", WindowsPath)
    monkeypatch.setattr(models, "Path", WindowsPath)
    monkeypatch.setattr(model_names, "WEIGHTS", WindowsPath(r"C:\pack\weights"))
    monkeypatch.setattr(
        WindowsPath, "folders", {"C:\\", r"C:\scans", r"C:\scans\old", r"\\nas\photos" + "\\"}
    )
    monkeypatch.setattr(
        WindowsPath, "files", {r"C:\pack\weights\upscale.safetensors", r"C:\other.safetensors"}
    )
    return WindowsPath


@pytest.mark.parametrize(
    ("name", "folder", "pattern"),
    [
        (r"C:\scans\*.tif", r"C:\scans", "*.tif"),
        ("C:/scans/old/**/*.png", r"C:\scans\old", r"**\*.png"),
        (r"c:\SCANS\Old\[ab]?.jpg", r"c:\SCANS\Old", "[ab]?.jpg"),
        (r"C:\scans\new*\*.png", r"C:\scans", r"new*\*.png"),
        (r"\\nas\photos\2024*\*.png", "\\\\nas\\photos\\", r"2024*\*.png"),
    ],
)
def test_patterns_are_split_at_backslashes(
    name: str, folder: str, pattern: str, disk: type[WindowsPath]
) -> None:
    assert image_files._split_pattern(disk(name)) == (disk(folder), pattern)  # pyright: ignore


def test_images_come_in_one_order_on_every_system(disk: type[WindowsPath]) -> None:
    names = ["b.png", "B.png", "a.png", "Z/a.png", "z.png", "a-1/x.png", "a/x.png", "a+/x.png"]
    orders = []
    for path in (WindowsPath, PurePosixPath):
        folder = path("set") if path is PurePosixPath else disk("set")
        disk.files = {f"set/{name}" for name in names}
        candidates: Any = [path(name) for name in names]
        if path is PurePosixPath:
            orders.append([p.as_posix() for p in sorted(candidates)])
        else:
            found = image_files._images(folder, candidates, FORMATS)  # pyright: ignore
            orders.append([inside.as_posix() for inside in found])
    assert orders[0] == orders[1]


def test_so_do_images_to_train_on(disk: type[WindowsPath], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["b.png", "B.png", "Z.png", "a.png"]
    disk.folders, disk.files = {"set"}, {f"set/{name}" for name in names}
    monkeypatch.setattr(disk, "resolve", lambda path: path, raising=False)
    monkeypatch.setattr(
        disk, "rglob", lambda path, _: [path / name for name in names], raising=False
    )
    found = training_data.image_paths([disk("set")])  # pyright: ignore[reportArgumentType]
    assert [path.name for path in found] == sorted(names)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("upscale", r"C:\pack\weights\upscale.safetensors"),
        (r"C:\other.safetensors", r"C:\other.safetensors"),
        (r"..\weights\upscale", None),
        (r"sub\upscale", None),
        (r"D:upscale", None),
        (r"\\nas\photos\upscale", None),
    ],
)
def test_only_a_plain_name_is_that_of_a_bundled_model(
    name: str, found: str | None, disk: type[WindowsPath]
) -> None:
    if found is None:
        with pytest.raises(models.CheckpointError, match="neither a file nor a bundled model"):
            models.find_model(name)
    else:
        assert models.find_model(name) == disk(found)


# Names of models that travel


@example("sub/CON")
@example("nul.x2")
@example("COM¹/x2")
@example("x2./y")
@example("x2 /y")
@example("C:x2")
@example("x2:stream")
@given(st.text(st.sampled_from("aB.:/\\ ~$CON1é图*?\0")) | st.text())
def test_a_name_is_refused_or_leads_into_the_folder_on_windows_too(name: str) -> None:
    try:
        inside = check_name(name)
    except ValueError:
        return
    path = MODELS / PureWindowsPath(f"{inside}.safetensors")
    assert path.relative_to(MODELS).as_posix() == f"{inside}.safetensors"
    assert ".." not in path.parts
    assert windows_fault(path) is None
    # The same file by the name that is listed on either system.
    assert MODELS / PureWindowsPath(str(inside)) == MODELS / str(PureWindowsPath(inside))


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the loader node, in a host that lists two model files."""
    with nodes_without_host(
        monkeypatch,
        get_filename_list=lambda folder: LISTED,
        get_full_path_or_raise=lambda folder, name: f"{folder}/{name}",
    ) as nodes:
        monkeypatch.setattr(sys.modules[__name__], "LISTED", ["sub\\one.pth", "two.safetensors"])
        yield nodes.model_loader


def test_models_are_listed_with_slashes_on_windows(
    loader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader.host, "PurePath", PureWindowsPath)
    assert loader.model_names()[-2:] == ["sub/one.pth", "two.safetensors"]
    for name in ("sub/one.pth", "sub\\one.pth", "two.safetensors"):
        assert loader.SwinIRModelLoader.validate_inputs(name) is True
        assert loader.find_file(name) == Path("swinir", name.replace("\\", "/"))


def test_a_workflow_saved_on_windows_opens_on_linux(
    loader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader.host, "PurePath", PurePosixPath)
    LISTED[:] = ["sub/one.pth", "back\\slash.pth"]
    assert loader.SwinIRModelLoader.validate_inputs("sub\\one.pth") is True
    assert loader.find_file("sub\\one.pth") == Path("swinir/sub/one.pth")
    # Where a backslash is part of the very name, it is not taken for anything else.
    assert loader.SwinIRModelLoader.validate_inputs("back\\slash.pth") is True
    assert loader.find_file("back\\slash.pth") == Path("swinir", "back\\slash.pth")
    bundled = loader.model_names()[0]
    assert bundled.startswith("bundled/")
    assert loader.find_file(bundled.replace("/", "\\")) == loader.find_file(bundled)


def test_bundled_models_are_found_without_reading_them(loader: Any) -> None:
    node, name = loader.SwinIRModelLoader, loader.model_names()[0]
    assert node.validate_inputs(name) is True
    assert node.fingerprint_inputs(name)[1] == loader.find_file(name).stat().st_size
    core = loader.__name__.replace("nodes.model_loader", "swinir_core")
    assert f"{core}.model_names" in sys.modules
    assert f"{core}.checkpoints" not in sys.modules


@pytest.mark.parametrize(
    "name", ["..\\one.pth", "C:\\one.pth", "sub\\\\one.pth", "missing.pth", ""]
)
def test_other_names_are_refused_before_anything_runs(loader: Any, name: str) -> None:
    LISTED[:] = ["sub/one.pth"]
    assert loader.SwinIRModelLoader.validate_inputs(name) == (
        f"there is no model {name!r}; press R to read the list again."
    )


# Training


def test_paths_of_windows_in_a_configuration() -> None:
    for path in (r"C:\new\table", "\\\\nas\\photos\\", r"D:\"quoted"):
        text = f"path = {as_toml(path)}"
        assert tomllib.loads(text) == {"path": path}


def test_worker_processes_can_be_sent_the_patches_where_nothing_forks(folder: Path) -> None:
    config = tiny_config(folder)
    task = build_task(config.task, config.degradation)
    photos = Photos.read(sorted(Path("photographs").iterdir()), task, 8, 2**30, quiet=True)
    patches = Patches(photos, 8, 2, seed=0)
    sent = pickle.loads(pickle.dumps(patches))
    for ours, theirs in zip(patches[3], sent[3], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("system", "methods", "context"),
    [
        ("linux", ["fork", "spawn"], "fork"),
        ("darwin", ["spawn", "fork"], None),
        ("win32", ["spawn"], None),
    ],
)
def test_only_where_it_is_safe_workers_are_forked(
    system: str, methods: list[str], context: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(training_data.sys, "platform", system)
    monkeypatch.setattr(training_data.multiprocessing, "get_all_start_methods", lambda: methods)
    monkeypatch.setattr(
        training_data, "DataLoader", lambda *_, **options: given.append(options) or []
    )
    patches: Any = SimpleNamespace(batch=2)
    one: Any = SimpleNamespace(device=torch.device("cpu"), process_index=0, num_processes=1)
    training_data.batches(patches, range(1), one, workers=2)
    assert given[0]["multiprocessing_context"] == context


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        save_photograph(Path("photographs", f"{seed}.png"), seed=seed)
    return tmp_path
