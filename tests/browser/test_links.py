"""The saved example workflows against what the host says of its nodes; no browser is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser import saved, supplies
from tests.browser.workflows import WORKFLOWS, Workflow
from tests.browser.workflows.graph import BRINGS
from tests.host.comfy_host import PACK, ComfyHost
from tests.host.conftest import find_home, find_python

pytestmark = pytest.mark.host

each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda w: w.name)
ANYTHING = "*"
"""The type of an input that takes every type."""
QUICK = {"steps": 1, "width": 64, "height": 64, "shrink": 4}
"""Widget values that make the diffusion examples quick."""


@pytest.fixture(scope="module")
def object_info(session_host: ComfyHost) -> dict[str, Any]:
    return session_host.get_json("/object_info")


def test_the_folder_holds_every_workflow_and_its_thumbnail_and_nothing_else() -> None:
    names = {workflow.name for workflow in WORKFLOWS}
    wanted = {name + suffix for name in names for suffix in (".json", ".jpg")}
    assert {path.name for path in saved.FOLDER.iterdir()} == wanted


def test_names_put_the_workflows_in_order() -> None:
    names = [workflow.name for workflow in WORKFLOWS]
    assert names == sorted(names)


@each_workflow
def test_a_workflow_runs_for_its_thumbnail_or_another_one_does(workflow: Workflow) -> None:
    assert (workflow.stand_in is None) == (workflow.wants is None)


@each_workflow
def test_a_saved_workflow_is_the_described_one(workflow: Workflow) -> None:
    """Fails when a description was changed and ``build.py`` was not run."""
    file = saved.read(workflow.name)
    note, *nodes = file["nodes"]
    assert note["widgets_values"] == [workflow.note.strip()]
    assert [one["type"] for one in nodes] == [node.type for node in workflow.nodes]
    for one, node in zip(nodes, workflow.nodes, strict=True):
        assert saved.values(one).items() >= node.values.items()
        assert (one["mode"] == saved.MUTED) == node.muted
        linked = {entry["name"] for entry in one["inputs"] if entry["link"] is not None}
        assert linked == set(node.links)


@each_workflow
def test_the_host_offers_a_workflow_with_a_small_thumbnail(
    session_host: ComfyHost, workflow: Workflow
) -> None:
    assert workflow.name in session_host.get_json("/workflow_templates")[PACK]
    thumbnail = session_host.get(f"/api/workflow_templates/{PACK}/{quote(workflow.name)}.jpg")
    assert thumbnail.startswith(b"\xff\xd8")
    assert len(thumbnail) < 100_000


@each_workflow
def test_every_link_goes_from_an_output_to_an_input_of_its_type(
    object_info: dict[str, Any], workflow: Workflow
) -> None:
    file = saved.read(workflow.name)
    nodes = {one["id"]: one for one in file["nodes"]}
    assert file["links"]
    for _, source, output, target, slot, link_type in file["links"]:
        given = object_info[nodes[source]["type"]]["output"][output]
        name = nodes[target]["inputs"][slot]["name"]
        taken, *_ = saved.inputs_of(object_info[nodes[target]["type"]])[name]
        link = (nodes[source]["type"], nodes[target]["type"], name)
        assert given == link_type, link
        assert taken in (given, ANYTHING), link


@each_workflow
def test_every_required_input_has_a_link_or_a_value(
    object_info: dict[str, Any], workflow: Workflow
) -> None:
    file = saved.read(workflow.name)
    prompt = saved.to_prompt(file, object_info)
    for node in prompt.values():
        required = object_info[node["class_type"]]["input"].get("required", {})
        assert set(required) <= set(node["inputs"]), node["class_type"]


@each_workflow
def test_only_what_the_user_brings_is_not_among_the_choices(
    object_info: dict[str, Any], workflow: Workflow
) -> None:
    missing = []
    for one in saved.host_nodes(saved.read(workflow.name)):
        for name, (kind, *options) in saved.inputs_of(object_info[one["type"]]).items():
            choices = kind if isinstance(kind, list) else options and options[0].get("options")
            if kind == "COMBO" or isinstance(kind, list):
                value = saved.values(one).get(name)
                if value not in choices and one["type"] not in BRINGS:
                    missing.append((one["type"], name, value))
    assert missing == []


@pytest.fixture(scope="module")
def supplied(
    session_host: ComfyHost, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyHost]:
    """The host with all that the user would bring."""
    home = find_home()
    checkpoint = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    supplies.make_checkpoint(home, find_python(home), checkpoint)
    files = [
        supplies.bring_checkpoint(session_host, checkpoint),
        supplies.bring_upscale_model(session_host),
    ]
    yield session_host
    for file in (*files, checkpoint):
        file.unlink()


@pytest.mark.slow
@each_workflow
def test_a_workflow_runs_with_what_the_user_brings_if_anything(
    supplied: ComfyHost, object_info: dict[str, Any], workflow: Workflow
) -> None:
    prompt = saved.to_prompt(saved.read(workflow.name), object_info)
    if workflow.wants == "checkpoint":
        for node in prompt.values():
            quick = {name: value for name, value in QUICK.items() if name in node["inputs"]}
            node["inputs"].update(quick)
    after = supplied.run(prompt).pictures(str(workflow.number("after")))
    assert after
    assert all(picture.std() > 5 for picture in after)
