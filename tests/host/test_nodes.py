"""Nodes as the host knows them before anything runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.host.comfy_host import PACK, ComfyHost
from tests.host.conftest import REPOSITORY, save, tiny_model
from tests.host.graphs import ours, upscaling

pytestmark = pytest.mark.host

NODES = (
    "SwinIRModelLoader",
    "SwinIRTileSettings",
    "SwinIRRestore",
    "SwinIRSampleImage",
    "SwinIRImageQuality",
    "SwinIRLookAtImage",
    "SwinIRSaveModel",
    "SwinIRRestoreFolder",
    "SwinIRLoadFolder",
    "SwinIRSaveFolder",
    "SwinIRRestoreVideo",
)

SAVING = ["save_in", "format", "quality", "existing"]


@pytest.fixture(scope="module")
def infos(session_host: ComfyHost) -> dict[str, Any]:
    return {name: session_host.get_json(f"/object_info/{name}")[name] for name in NODES}


@pytest.mark.parametrize(
    ("name", "required", "optional", "outputs", "category"),
    [
        ("SwinIRModelLoader", ["model_name"], ["mean", "img_range"], ["UPSCALE_MODEL"], None),
        (
            "SwinIRTileSettings",
            ["mode"],
            ["tile_width", "tile_height", "overlap", "batch", "memory_budget"],
            ["SWINIR_TILE_SETTINGS"],
            "image/upscaling",
        ),
        (
            "SwinIRRestore",
            ["upscale_model", "image"],
            [
                *("precision", "ensemble", "tile_settings", "mask", "edges", "colors", "alpha"),
                *("size", "size_value", "strength"),
            ],
            ["IMAGE"],
            "image/upscaling",
        ),
        (
            "SwinIRSampleImage",
            ["picture"],
            ["shrink", "noise", "jpeg_quality", "gray", "seed", "frames"],
            ["IMAGE", "IMAGE"],
            "image",
        ),
        (
            "SwinIRImageQuality",
            ["image", "reference"],
            ["channel", "border"],
            ["FLOAT", "FLOAT"],
            "image",
        ),
        (
            "SwinIRLookAtImage",
            ["image"],
            [],
            ["STRING", "COMBO", "FLOAT", "FLOAT", "INT", "FLOAT"],
            "image",
        ),
        ("SwinIRSaveModel", ["upscale_model"], ["name", "precision"], ["STRING"], None),
        ("SwinIRLoadFolder", ["folder"], ["at_once", "part"], ["IMAGE", "STRING"], "image"),
        ("SwinIRSaveFolder", ["images"], ["names", *SAVING], [], "image"),
        (
            "SwinIRRestoreFolder",
            ["upscale_model", "folder"],
            [
                *(*SAVING, "precision", "ensemble", "tile_settings", "edges", "colors", "alpha"),
                *("size", "size_value", "strength"),
            ],
            [],
            "image/upscaling",
        ),
        (
            "SwinIRRestoreVideo",
            ["upscale_model", "video"],
            [
                *("precision", "tile_settings", "colors", "codec", "crf", "pixel_format"),
                *("edges", "size", "size_value", "strength", "reduce_flicker"),
            ],
            ["VIDEO"],
            "image/upscaling",
        ),
    ],
)
def test_workflows_can_rely_on_names(
    host: ComfyHost,
    infos: dict[str, Any],
    name: str,
    required: list[str],
    optional: list[str],
    outputs: list[str],
    category: str | None,
) -> None:
    info = infos[name]
    assert list(info["input"]["required"]) == required
    assert list(info["input"].get("optional", {})) == optional
    assert info["output"] == outputs
    theirs = host.get_json("/object_info/UpscaleModelLoader")["UpscaleModelLoader"]
    assert info["category"] == (category or theirs["category"])


@pytest.mark.parametrize("name", NODES)
def test_everything_has_a_tooltip(infos: dict[str, Any], name: str) -> None:
    info = infos[name]
    inputs = {**info["input"]["required"], **info["input"].get("optional", {})}
    tooltips = [options["tooltip"] for _, options in inputs.values()] + info["output_tooltips"]
    for text in (*tooltips, info["description"]):
        assert len(text) > 30
        assert text.endswith(".")


def test_tile_settings_have_defaults_that_work(infos: dict[str, Any]) -> None:
    inputs = infos["SwinIRTileSettings"]["input"]
    widgets = {**inputs["required"], **inputs["optional"]}
    assert {name: options["default"] for name, (_, options) in widgets.items()} == {
        "mode": "auto",
        "tile_width": 768,
        "tile_height": 768,
        "overlap": 0,
        "batch": 0,
        "memory_budget": 0,
    }
    assert widgets["mode"][1]["options"] == ["auto", "whole", "tiled"]


def test_a_new_file_is_listed_and_bundled_models_come_first(
    host: ComfyHost, models: Path, upscale_models: Path
) -> None:
    model = tiny_model()
    (models / "sub").mkdir()
    save(model, models / "sub" / "new.safetensors")
    save(model, upscale_models / "shared.safetensors")
    (models / "readme.txt").write_text("not a model")

    info = host.get_json("/object_info/SwinIRModelLoader")["SwinIRModelLoader"]
    options = info["input"]["required"]["model_name"][1]["options"]

    assert options[0] == "bundled/upscale x2 (light)"
    assert {"sub/new.safetensors", "shared.safetensors"} < set(options)
    assert "readme.txt" not in options


@pytest.mark.parametrize(
    "name", ["missing.safetensors", "../outside.safetensors", "bundled/../upscale_x2_light", ""]
)
def test_only_listed_models_are_accepted(
    host: ComfyHost, models: Path, picture: np.ndarray, name: str
) -> None:
    save(tiny_model(), models.parent / "outside.safetensors")
    graph = upscaling(ours(name), host.upload("picture.png", picture))

    status, reply = host.post("/prompt", {"prompt": graph})

    assert status == 400
    (error,) = reply["node_errors"]["loader"]["errors"]
    assert error["type"] == "custom_validation_failed"
    assert f"there is no model {name!r}" in error["details"]
    host.new_log()  # The host logs what it refuses.


def test_a_name_chosen_on_windows_is_found(
    host: ComfyHost, models: Path, picture: np.ndarray
) -> None:
    (models / "sub").mkdir(exist_ok=True)
    save(tiny_model(), models / "sub" / "two.safetensors")
    given = host.upload("picture.png", picture)
    here, there = (
        host.run(upscaling(ours(name), given)).image()
        for name in ("sub/two.safetensors", "sub\\two.safetensors")
    )
    assert np.array_equal(here, there)


@pytest.mark.parametrize("name", NODES)
def test_help_page(host: ComfyHost, name: str) -> None:
    page = host.get(f"/extensions/{PACK}/docs/{name}.md").decode()
    assert page == (REPOSITORY / "nodes" / "web" / "docs" / f"{name}.md").read_text("utf-8")
    (picture,) = re.findall(r"!\[.+\]\((.+)\)", page)
    assert host.get(f"/extensions/{PACK}/docs/{picture}").startswith(b"\x89PNG")
