"""The workflows with the host's comparison slider: opened from the help page, and run."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.browser import saved
from tests.browser.workflows import COMPARISONS, WORKFLOWS, Workflow
from tests.browser.workflows.comparisons import SLIDER
from tests.host.comfy_host import PACK, ComfyHost
from tests.host.conftest import PACK_FOLDER

pytestmark = pytest.mark.host

ADDRESS = f"/extensions/{PACK}/workflows/{{}}.json"
HELP = (PACK_FOLDER / "nodes" / "web" / "docs" / "SwinIRRestore.md").read_text("utf-8")

each_workflow = pytest.mark.parametrize("workflow", COMPARISONS, ids=lambda w: w.name)


@pytest.fixture(scope="module")
def object_info(session_host: ComfyHost) -> dict[str, Any]:
    found = session_host.get_json("/object_info")
    if SLIDER not in found:
        pytest.skip(f"THIS HOST HAS NO {SLIDER}, so no comparison slider was tested.")
    return found


def test_no_host_lists_them(session_host: ComfyHost) -> None:
    names = {workflow.name for workflow in WORKFLOWS}
    assert set(session_host.get_json("/workflow_templates")[PACK]) == names


@each_workflow
def test_the_host_serves_what_the_help_links(session_host: ComfyHost, workflow: Workflow) -> None:
    address = ADDRESS.format(workflow.name)
    assert f"({address})" in HELP
    file = json.loads(session_host.get(address))
    note, *nodes = file["nodes"]
    assert note["widgets_values"] == [workflow.note.strip()]
    assert [one["type"] for one in nodes] == [node.type for node in workflow.nodes]


@pytest.mark.slow
@each_workflow
def test_it_compares_two_pictures_of_one_size(
    session_host: ComfyHost, object_info: dict[str, Any], workflow: Workflow
) -> None:
    file = json.loads(session_host.get(ADDRESS.format(workflow.name)))
    prompt, slider = saved.to_prompt(file, object_info), str(workflow.number(SLIDER))
    prompt[slider]["inputs"]["compare_view"] = ""  # Which the frontend fills in.
    result = session_host.run(prompt)
    (before,), (after,) = (result.pictures(slider, kind) for kind in ("a_images", "b_images"))
    assert before.shape == after.shape
    assert (before != after).any()
    np.testing.assert_array_equal(result.pictures(str(workflow.number("after"))), [after])


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.usefixtures("object_info")
def test_a_link_of_the_help_page_opens_one_that_shows_both_pictures(
    session_host: ComfyHost,
) -> None:
    pytest.importorskip(
        "playwright.sync_api",
        reason="NO PLAYWRIGHT, so nothing was tested in a browser: pip install playwright.",
    )
    from tests.browser.frontend import find_chromium, open_frontend

    chromium = find_chromium()
    if chromium is None:
        pytest.skip(
            "NO CHROMIUM, so nothing was tested in a browser: install it, or set CHROMIUM_PATH."
        )
    workflow = COMPARISONS[0]
    session_host.post("/api/settings/Comfy.VueNodes.Enabled", True)
    with open_frontend(session_host, chromium) as frontend:
        frontend.open_help("SwinIRRestore")
        frontend.drag_link(ADDRESS.format(workflow.name))
        assert frontend.missing_nodes() == []
        assert frontend.overlaps() == []
        assert frontend.outside_the_page() == []
        assert frontend.run().succeeded
        frontend.wait_for_quiet()
        assert frontend.widths_of("Before image") == frontend.widths_of("After image") == [450]
