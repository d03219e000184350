"""The example workflows are offered by the host, and run."""

from __future__ import annotations

import json

import pytest

import swinir_core as sc
from tests.host.comfy_host import PACK, ComfyHost
from tests.host.conftest import REPOSITORY, assert_same, make_picture, to_tensor
from tests.host.graphs import from_saved

pytestmark = pytest.mark.host

EXAMPLES = sorted(path.stem for path in (REPOSITORY / "example_workflows").glob("*.json"))


def test_the_host_offers_every_example(host: ComfyHost) -> None:
    assert sorted(host.get_json("/workflow_templates")[PACK]) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_has_a_small_thumbnail(host: ComfyHost, name: str) -> None:
    thumbnail = host.get(f"/api/workflow_templates/{PACK}/{name}.jpg")
    assert thumbnail.startswith(b"\xff\xd8")
    assert len(thumbnail) < 100_000


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_on_the_bundled_weights(host: ComfyHost, name: str) -> None:
    picture = make_picture(0)
    host.upload("example.png", picture)
    workflow = json.loads(host.get(f"/api/workflow_templates/{PACK}/{name}.json"))
    graph = from_saved(workflow, host.get_json("/object_info"))
    save = next(key for key, node in graph.items() if node["class_type"] == "SaveImage")

    result = host.run(graph)

    model = sc.load_model("upscale_x2_light")
    assert_same(result.image(save), sc.Restorer(model)(to_tensor(picture)))
