"""Every example opened from the Templates dialog of the real frontend, and run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import saved
from tests.browser.workflows import COMPARE_QUALITY, WORKFLOWS, Workflow
from tests.browser.workflows.graph import BRINGS
from tests.host.comfy_host import ComfyHost
from tests.host.conftest import PACK_FOLDER, find_home, find_python

pytest.importorskip(
    "playwright.sync_api",
    reason="NO PLAYWRIGHT, so nothing was tested in a browser: pip install playwright.",
)
from tests.browser.frontend import Frontend, find_chromium, open_frontend

pytestmark = [pytest.mark.host, pytest.mark.browser]

THUMBNAIL_SIDE = 448

each_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda w: w.name)


@pytest.fixture(scope="module")
def frontend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frontend]:
    """The frontend of a host right after installation: no model, no file but the pack's own."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(
            "NO CHROMIUM, so nothing was tested in a browser: install it, or set CHROMIUM_PATH."
        )
    home = find_home()
    base = tmp_path_factory.mktemp("browser") / "b"
    host = ComfyHost(home, find_python(home), PACK_FOLDER, base)
    try:
        host.wait_until_ready()
        with open_frontend(host, chromium) as frontend:
            yield frontend
    finally:
        host.stop()


@pytest.fixture
def opened(frontend: Frontend, workflow: Workflow) -> Frontend:
    """The frontend with the workflow opened as a user opens it."""
    frontend.reload()
    frontend.open_template(workflow.name)
    return frontend


def test_every_template_is_offered_with_a_thumbnail(frontend: Frontend) -> None:
    frontend.reload()
    widths = frontend.template_thumbnails()
    assert widths == {workflow.name: THUMBNAIL_SIDE for workflow in WORKFLOWS}


@each_workflow
def test_a_template_opens_complete(opened: Frontend, workflow: Workflow) -> None:
    assert opened.missing_nodes() == []
    assert opened.overlaps() == []
    assert opened.texts_are_drawn()
    assert opened.outside_the_page() == []
    brought = [node.type for node in workflow.nodes if node.type in BRINGS]
    assert [node_type for node_type, *_ in opened.missing_choices()] == brought
    for node in workflow.nodes:
        shown = opened.values(workflow.number(node.key))
        assert node.muted or shown.items() >= node.values.items()


@pytest.mark.parametrize("file", saved.EARLIER, ids=lambda file: file.stem)
def test_a_workflow_saved_earlier_opens_with_its_values(frontend: Frontend, file: Path) -> None:
    workflow = json.loads(file.read_text("utf-8"))
    frontend.load(workflow)
    assert frontend.missing_nodes() == []
    for node in workflow["nodes"]:
        if node["type"].startswith("SwinIR"):
            shown = frontend.values(node["id"])
            assert shown.items() >= saved.values(node).items()


@pytest.mark.slow
@pytest.mark.parametrize("workflow", [COMPARE_QUALITY], ids=lambda workflow: workflow.name)
def test_nodes_show_what_they_load_and_measure(opened: Frontend) -> None:
    assert opened.run().succeeded
    opened.wait_for_quiet()
    assert opened.shows(r"color denoise, x1, RGB,\s*0\.44M weights") == 1
    assert opened.shows(r"PSNR \d\d\.\d\d dB\s*SSIM 0\.\d{4}") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "workflow", [w for w in WORKFLOWS if not w.wants], ids=lambda workflow: workflow.name
)
def test_a_template_runs_at_the_first_click(opened: Frontend, workflow: Workflow) -> None:
    result = opened.run()
    assert result.succeeded
    before, after = (result.pictures(str(workflow.number(key)))[-1] for key in ("before", "after"))
    assert after.std() > 5
    assert (before.shape != after.shape) or (before != after).any()
    opened.wait_for_quiet()
    assert opened.overlaps() == []
