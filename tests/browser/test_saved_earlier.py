"""The example workflows of commit 2881457, as users saved them then, in the nodes of today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import swinir_core as sc
from swinir_core.degradation.samples import degraded, read_sample
from tests.browser import saved
from tests.host.comfy_host import ComfyHost
from tests.host.conftest import assert_same

pytestmark = pytest.mark.host

WIDGETS = ("COMBO", "INT", "FLOAT", "BOOLEAN", "STRING")
PICTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Upscale a photograph": ("upscale_x2_light", "cat", {}),
    "Remove noise": ("denoise_color_light", "coffee", {"noise": 25}),
    "Remove JPEG artefacts": ("jpeg_color_light", "astronaut", {"jpeg_quality": 20}),
}
"""Model, picture and degradation of a workflow."""

each_file = pytest.mark.parametrize("file", saved.EARLIER, ids=lambda file: file.stem)


@pytest.fixture(scope="module")
def object_info(session_host: ComfyHost) -> dict[str, Any]:
    return session_host.get_json("/object_info")


def ours(workflow: saved.Saved) -> list[saved.Saved]:
    return [node for node in workflow["nodes"] if node["type"].startswith("SwinIR")]


@each_file
def test_values_saved_by_position_are_those_of_the_same_widgets(
    object_info: dict[str, Any], file: Path
) -> None:
    nodes = ours(json.loads(file.read_text("utf-8")))
    assert nodes
    for node in nodes:
        inputs = saved.inputs_of(object_info[node["type"]])
        widgets = [
            name for name, (kind, *_) in inputs.items() if isinstance(kind, list) or kind in WIDGETS
        ]
        by_position = dict(zip(widgets, node["widgets_values"], strict=False))
        assert by_position == node["widgets_values_named"]
        kept = {entry["name"] for entry in node["inputs"]}
        assert kept <= inputs.keys()
        outputs = [output["name"] for output in node["outputs"]]
        assert object_info[node["type"]]["output_name"][: len(outputs)] == outputs


@each_file
def test_all_that_is_chosen_is_still_offered(object_info: dict[str, Any], file: Path) -> None:
    for node in ours(json.loads(file.read_text("utf-8"))):
        for name, (kind, *options) in saved.inputs_of(object_info[node["type"]]).items():
            value = saved.values(node).get(name)
            if (kind == "COMBO" or isinstance(kind, list)) and value is not None:
                assert value in (kind if isinstance(kind, list) else options[0]["options"])


@pytest.mark.slow
@pytest.mark.parametrize("name", PICTURES)
def test_they_give_the_picture_of_the_model_alone(
    host: ComfyHost, object_info: dict[str, Any], name: str
) -> None:
    """No input that came later changes it."""
    (file,) = (file for file in saved.EARLIER if file.stem == name)
    model, picture, degradation = PICTURES[name]
    sample, _ = degraded(read_sample(picture), **degradation)
    expected = sc.Restorer(sc.load_model(model))(torch.from_numpy(sample)[None])
    workflow = json.loads(file.read_text("utf-8"))
    (saves,) = (node for node in workflow["nodes"] if node["type"] == "SaveImage")
    result = host.run(saved.to_prompt(workflow, object_info))
    assert_same(result.images(str(saves["id"])), expected.clamp(0, 1))
