"""Draw, save and run the example workflows; write example_workflows/ and docs/screenshots/, and
those with the host's comparison slider, nodes/web/workflows/.

python -m tests.browser.build [NAME ...]

Needs playwright, Chromium and a ComfyUI (COMFYUI_PATH, else ~/ComfyUI). Examples that need a file
of the user's are drawn and saved, but not run; their thumbnails show what the SwinIR in them does.
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from pathlib import Path
from typing import Any

from PIL import Image

from tests.browser.frontend import Frontend, find_chromium, open_frontend, view_of
from tests.browser.pictures import before_and_after, save_jpeg, save_screenshot
from tests.browser.supplies import bring_checkpoint, bring_upscale_model, make_checkpoint
from tests.browser.workflows import COMPARISONS, WORKFLOWS, Workflow
from tests.host.comfy_host import ComfyHost
from tests.host.conftest import REPOSITORY, find_home, find_python

EXAMPLES = REPOSITORY / "example_workflows"
SLIDERS = REPOSITORY / "nodes" / "web" / "workflows"
"""Where no host lists them, and every host serves them."""
SCREENSHOTS = REPOSITORY / "docs" / "screenshots"
MOST_SCREENSHOT_BYTES = 250_000
SCREENSHOT_WIDTH = 1600
PAGE = (2200, 1240)  # Large enough for the frontend to draw all texts.


def main(names: list[str]) -> None:
    known = [workflow.name for workflow in (*WORKFLOWS, *COMPARISONS)]
    if unknown := set(names) - set(known):
        sys.exit(f"There is no workflow {', '.join(unknown)}; there are {', '.join(known)}.")
    chromium = find_chromium()
    if chromium is None:
        sys.exit("Chromium was not found; set CHROMIUM_PATH to its program.")
    for needed in (EXAMPLES, SLIDERS, SCREENSHOTS):
        needed.mkdir(parents=True, exist_ok=True)
    home = find_home()
    python = find_python(home)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "tiny.safetensors"
        host = ComfyHost(home, python, REPOSITORY, Path(folder) / "base")
        try:
            host.wait_until_ready()
            make_checkpoint(home, python, checkpoint)
            bring_checkpoint(host, checkpoint)
            bring_upscale_model(host)
            with open_frontend(host, chromium, PAGE) as frontend:
                for workflow in (*WORKFLOWS, *COMPARISONS):
                    if not names or workflow.name in names:
                        frontend.reload()
                        done = build(workflow, frontend)
                        sys.stdout.write(f"{workflow.name}: {done}\n")
                        sys.stdout.flush()
        finally:
            host.stop()


def build(workflow: Workflow, frontend: Frontend) -> str:
    """Save the workflow and its pictures; what was done, in words."""
    graph = frontend.draw(workflow)
    if overlaps := frontend.overlaps():
        raise RuntimeError(f"{workflow.name}: these nodes overlap: {overlaps}")
    in_folder = SLIDERS if workflow in COMPARISONS else EXAMPLES
    write(in_folder / f"{workflow.name}.json", graph, frontend)
    if in_folder == SLIDERS:
        return "saved; test_comparisons.py runs it"
    frontend.show_all()

    thumbnail = EXAMPLES / f"{workflow.name}.jpg"
    missing = ", ".join(value for _, _, value in frontend.missing_choices())
    if workflow.stand_in is None:
        save_jpeg(run(workflow, frontend), thumbnail)
        if overlaps := frontend.overlaps():
            raise RuntimeError(f"{workflow.name}: these nodes overlap after a run: {overlaps}")
        done = "saved and run"
    else:
        why = f"the host has no {missing}" if missing else "a random checkpoint shows nothing"
        done = f"saved, NOT RUN: {why}"
    screenshot = frontend.screenshot()
    screenshot.thumbnail((SCREENSHOT_WIDTH, SCREENSHOT_WIDTH), Image.Resampling.LANCZOS)
    save_screenshot(screenshot, SCREENSHOTS / workflow.slug, MOST_SCREENSHOT_BYTES)
    if workflow.stand_in is not None:
        frontend.draw(workflow.stand_in)
        save_jpeg(run(workflow.stand_in, frontend), thumbnail)
    return done


def run(workflow: Workflow, frontend: Frontend) -> Image.Image:
    """Run what is drawn; return its thumbnail."""
    result = frontend.run()
    if not result.succeeded:
        raise RuntimeError(f"{workflow.name}: {result.error}")
    before, after = (result.pictures(str(workflow.number(key)))[-1] for key in ("before", "after"))
    frontend.wait_for_quiet()
    return before_and_after(before, after, workflow.focus)


def write(path: Path, graph: dict[str, Any], frontend: Frontend) -> None:
    """Save what the frontend serialised; all that differs from time to time is made the same."""
    graph["id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, f"swinir-restore/{path.stem}"))
    graph["extra"] = {"ds": view_of(frontend.bounds())}
    for node in graph["nodes"]:
        node["pos"] = [round(value) for value in node["pos"]]
        node["size"] = [round(value) for value in node["size"]]
    text = json.dumps(graph, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
