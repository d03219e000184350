"""Folders of pictures loaded, restored and saved by a real host."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import swinir_core as sc
from swinir_core.degradation.samples import FOLDER
from tests.host.comfy_host import ComfyHost, Result
from tests.host.conftest import make_picture, save, tiny_model, to_tensor
from tests.host.graphs import link, node, ours

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore:torch.meshgrid")]

SAMPLES = "bundled/samples"
MODEL = "folders.safetensors"


@pytest.fixture(scope="module")
def model(models: Path) -> sc.SwinIR:
    model = tiny_model()
    save(model, models / MODEL)
    return model


@pytest.fixture
def pictures(session_host: ComfyHost, request: pytest.FixtureRequest) -> Path:
    """A folder in the input folder: two pictures of different sizes, one of them with alpha, a
    damaged one, and what is no picture."""
    folder = session_host.base / "input" / f"folder {len(request.node.name)}" / request.node.name
    folder.mkdir(parents=True)
    Image.fromarray(make_picture(1)).save(folder / "p10.png")
    rgba = np.dstack([make_picture(2, 40, 56), make_picture(3, 40, 56)[..., 0]])
    Image.fromarray(rgba).save(folder / "p2.png")
    (folder / "p3.png").write_bytes(b"damaged")
    (folder / "notes.txt").write_text("no picture")
    return folder


def name_of(folder: Path) -> str:
    return f"input/{folder.parent.name}/{folder.name}"


def restoring(folder: str, **inputs: Any) -> dict[str, Any]:
    return {
        "loader": ours(MODEL),
        "run": node("SwinIRRestoreFolder", upscale_model=link("loader"), folder=folder, **inputs),
    }


def passing(folder: str, **inputs: Any) -> dict[str, Any]:
    """Load a folder, restore and save each picture, by three nodes."""
    return {
        "loader": ours(MODEL),
        "load": node("SwinIRLoadFolder", folder=folder, **inputs),
        "restore": node("SwinIRRestore", upscale_model=link("loader"), image=link("load")),
        "run": node(
            "SwinIRSaveFolder", images=link("restore"), names=link("load", 1), save_in="passed"
        ),
    }


def saved(host: ComfyHost, result: Result) -> dict[str, np.ndarray]:
    """The pictures that the node shows, by their paths in the output folder."""
    paths = [f"{i['subfolder']}/{i['filename']}" for i in result.found("run")["images"]]
    return {path: np.asarray(Image.open(host.base / "output" / path)) for path in paths}


@pytest.mark.parametrize("build", [restoring, passing])
def test_a_folder_is_restored(
    host: ComfyHost, model: sc.SwinIR, pictures: Path, build: Any
) -> None:
    result = host.run(build(name_of(pictures)))

    found = saved(host, result)
    folder = "restored" if build is restoring else "passed"
    assert list(found) == [f"{folder}/p2.png", f"{folder}/p10.png"]
    for (name, pixels), source in zip(found.items(), ("p2.png", "p10.png"), strict=True):
        image = to_tensor(np.asarray(Image.open(pictures / source)))
        expected = sc.Restorer(model)(image)
        assert pixels.shape == expected.shape[1:], name
        assert np.abs(pixels - (expected[0] * 255).numpy()).max() <= 1, name
    log = host.new_log()
    assert "SwinIR left a picture out: p3.png cannot be read: it is damaged" in log
    if build is restoring:
        assert result.found("run")["text"] == [
            "2 of 3 pictures written to output/restored. Left out: p3.png cannot be read: it is "
            "damaged, or no picture."
        ]


def test_a_changed_folder_is_run_again(host: ComfyHost, model: sc.SwinIR, pictures: Path) -> None:
    graph = restoring(name_of(pictures), save_in="changed", existing="skip")
    host.run(graph)
    assert set(host.run(graph).cached_nodes) == {"loader", "run"}

    (pictures / "p3.png").unlink()
    Image.fromarray(make_picture(4)).save(pictures / "p4.png")

    result = host.run(graph)
    assert list(saved(host, result)) == ["changed/p4.png"]
    (text,) = result.found("run")["text"]
    assert text == "1 of 3 pictures written to output/changed, 2 skipped that exist."


def test_a_failure_beside_what_is_skipped_is_left_out(
    host: ComfyHost, model: sc.SwinIR, pictures: Path
) -> None:
    """Who runs a folder again with skip has the results of all others."""
    folder = name_of(pictures)
    host.run(restoring(folder, save_in="again"))

    result = host.run(restoring(folder, save_in="again", existing="skip"))

    assert host.new_log().count("SwinIR left a picture out: p3.png") == 2
    assert result.found("run")["text"] == [
        "0 of 3 pictures written, 2 skipped that exist. Left out: p3.png cannot be read: it is "
        "damaged, or no picture."
    ]


def test_parts_of_a_folder(host: ComfyHost, model: sc.SwinIR) -> None:
    names = [sorted(path.stem for path in FOLDER.glob("*.png"))[i] for i in range(4)]
    taken = []
    for part in (0, 1):
        result = host.run(passing(SAMPLES, at_once=3, part=part))
        taken += [Path(path).stem for path in saved(host, result)]
    assert taken == names
    error = host.run_failing(passing(SAMPLES, at_once=3, part=2)).error
    assert "part: bundled/samples has 4 pictures, which are parts 0 to 1 of 3, got 2." in error


def test_a_batch_is_saved_as_files_of_one_name(host: ComfyHost) -> None:
    graph = {
        "sample": node("SwinIRSampleImage", picture="all"),
        "run": node(
            *("SwinIRSaveFolder",),
            **{
                "images": link("sample"),
                "names": "many.png",
                "save_in": "batch/in",
                "format": "webp",
            },
        ),
    }
    found = saved(host, host.run(graph))
    assert list(found) == [f"batch/in/many{end}.webp" for end in ("", "_2", "_3", "_4")]


@pytest.mark.parametrize(
    ("inputs", "explanation"),
    [
        ({"save_in": "../elsewhere"}, "must not contain '..'; it stays inside output"),
        ({"save_in": "/elsewhere"}, "absolute path"),
        ({"save_in": "link"}, "is a link that leads out of"),
        ({"format": "exe"}, "format"),
        ({"existing": "ask"}, "existing"),
        ({"folder": "input/.."}, "folder"),
        ({"folder": "input/hidden/../.."}, "folder"),
        ({"folder": "/"}, "folder"),
        ({"folder": "input/empty"}, "there is no picture in the folder input/empty; copy some"),
    ],
)
def test_nothing_is_read_or_written_elsewhere(
    host: ComfyHost, model: sc.SwinIR, inputs: dict[str, Any], explanation: str
) -> None:
    (host.base / "input" / "empty").mkdir(exist_ok=True)
    (host.base / "output").mkdir(exist_ok=True)
    link_out = host.base / "output" / "link"
    if not link_out.is_symlink():
        link_out.symlink_to(host.base)
    before = set(host.base.iterdir())
    graph = restoring(**{"folder": SAMPLES, **inputs})

    status, reply = host.post("/prompt", {"prompt": graph})
    if status == 200 and not reply["node_errors"]:
        text = Result(host, host.wait(reply["prompt_id"])).error
    else:
        text = str(reply)
    host.new_log()  # A traceback of the host is not held against us here.

    assert explanation in text
    assert set(host.base.iterdir()) == before


def test_a_run_is_cancelled_between_whole_files(host: ComfyHost, model: sc.SwinIR) -> None:
    folder = host.base / "input" / "long"
    folder.mkdir()
    for number in range(60):
        Image.fromarray(make_picture(number, 200, 200)).save(folder / f"{number}.png")
    target = host.base / "output" / "cancelled"

    prompt = host.submit(restoring("input/long", save_in="cancelled"))
    waiting = threading.Event()
    while not target.is_dir() or not any(target.iterdir()):
        assert not waiting.wait(0.05)
    host.post("/interrupt", {})
    host.wait(prompt)

    files = list(target.iterdir())
    assert 0 < len(files) < 60
    assert {Image.open(file).size for file in files} == {(400, 400)}
    host.new_log()
