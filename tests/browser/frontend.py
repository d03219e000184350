"""The real frontend of a real host, in a Chromium without a window."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from tests.browser.workflows import Workflow
from tests.host.comfy_host import PACK, ComfyHost, Result

Size = tuple[int, int]

USUAL_SIZE = (1440, 900)
"""Width and height of the page in screen pixels."""
MARGINS = (75, 110, 100, 100)
"""Left, top, right and bottom: screen pixels that the frontend's own bars cover."""
LEAST_SCALE = 0.6
"""Below it the frontend draws no text."""

MILLISECONDS = 180_000  # A busy machine is slow.
CARD = "template-workflow-"
DRAWING = Path(__file__).with_name("drawing.js").read_text()

SETTINGS = {
    "Comfy.TutorialCompleted": True,  # Otherwise the first visit opens the Templates dialog.
    "Comfy.Workflow.Persist": False,  # Start empty.
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}

NO_NOTICES = "[data-testid=queue-notification-banner] { display: none !important; }"
ADD_STYLE = """(css) =>
  document.head.append(Object.assign(document.createElement("style"), { textContent: css }))"""

ADD_SELECTED = """(type) => {
  const node = LiteGraph.createNode(type);
  app.graph.clear();
  app.graph.add(node);
  node.pos = [300, 200];
  app.canvas.selectNode(node);
}"""

OVERLAPS = """() => {
  const nodes = app.graph._nodes, found = [];
  const box = (n) => [n.pos[0], n.pos[1] - 30, n.pos[0] + n.size[0], n.pos[1] + n.size[1]];
  nodes.forEach((a, i) => nodes.slice(i + 1).forEach((b) => {
    const [p, q] = [box(a), box(b)];
    if (p[0] < q[2] && q[0] < p[2] && p[1] < q[3] && q[1] < p[3]) found.push([a.title, b.title]);
  }));
  return found;
}"""

OUTSIDE = """() => {
  const { scale, offset } = app.canvas.ds;
  const { width, height } = app.canvas.canvas.getBoundingClientRect();
  const seen = (edge, shift, most) => (edge + shift) * scale > 0 && (edge + shift) * scale < most;
  return app.graph._nodes.filter((n) => ![
    [n.pos[0], offset[0], width], [n.pos[0] + n.size[0], offset[0], width],
    [n.pos[1] - 30, offset[1], height], [n.pos[1] + n.size[1], offset[1], height],
  ].every((edge) => seen(...edge))).map((n) => n.title);
}"""

MISSING_NODES = """() => app.graph._nodes
  .filter((n) => !LiteGraph.registered_node_types[n.type]).map((n) => n.type)"""

MISSING_CHOICES = """() => app.graph._nodes.filter((n) => n.mode !== 2)
  .flatMap((n) => (n.widgets ?? [])
  .filter((w) => w.type === "combo" && Array.isArray(w.options?.values)
    && !w.options.values.includes(w.value))
  .map((w) => [n.type, w.name, w.value]))"""

BOUNDS = """() => {
  const nodes = app.graph._nodes;
  const least = (f) => Math.min(...nodes.map(f)), most = (f) => Math.max(...nodes.map(f));
  return [least((n) => n.pos[0]), least((n) => n.pos[1] - 30),
          most((n) => n.pos[0] + n.size[0]), most((n) => n.pos[1] + n.size[1])];
}"""


def find_chromium() -> str | None:
    """Find Chromium: ``CHROMIUM_PATH``, or a usual name on the path."""
    names = (os.environ.get("CHROMIUM_PATH"), "chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if name and (found := shutil.which(name))), None)


@contextmanager
def open_frontend(host: ComfyHost, chromium: str, size: Size = USUAL_SIZE) -> Iterator[Frontend]:
    """The frontend with an empty canvas."""
    for name, value in SETTINGS.items():
        host.post(f"/api/settings/{name}", value)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": size[0], "height": size[1]})
        page.set_default_timeout(MILLISECONDS)
        try:
            yield Frontend(page, host, size)
        finally:
            browser.close()


class Frontend:
    """Actions of a user in the page, and what they see there."""

    def __init__(self, page: Page, host: ComfyHost, size: Size) -> None:
        self.page = page
        self._size = size
        self._host = host
        self.reload()

    def reload(self) -> None:
        """Open the page afresh; no workflow and no dialog stays open."""
        self.page.goto(self._host.url, wait_until="domcontentloaded")
        self.page.wait_for_function(
            "!!window.app?.graph && !!window.LiteGraph?.registered_node_types.SwinIRRestore",
        )
        self.page.get_by_role("button", name="Run").first.wait_for()
        # Not add_style_tag: it fails when the page meanwhile asks for what the host forbids.
        self.page.evaluate(ADD_STYLE, NO_NOTICES)
        self.page.wait_for_timeout(1500)

    def draw(self, workflow: Workflow) -> dict[str, Any]:
        """Build and arrange a workflow; what the frontend saves of it."""
        return json.loads(self.page.evaluate(DRAWING, workflow.plan()))

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a saved workflow in place of what is open."""
        self.page.evaluate("(workflow) => app.loadGraphData(workflow)", workflow)
        self.page.wait_for_timeout(500)

    def template_thumbnails(self) -> dict[str, int]:
        """Name and thumbnail width, 0 where it does not load, of all templates of this pack."""
        widths = {}
        for card in self._open_templates().all():
            card.scroll_into_view_if_needed()
            self.page.wait_for_timeout(500)
            name = (card.get_attribute("data-testid") or "").removeprefix(CARD)
            widths[name] = card.locator("img").first.evaluate("(image) => image.naturalWidth")
        return widths

    def open_template(self, name: str) -> None:
        """Choose a template of this pack in the Templates dialog."""
        self._open_templates()
        card = self.page.get_by_test_id(CARD + name)
        card.scroll_into_view_if_needed()
        card.locator("img").first.click()
        card.wait_for(state="hidden")
        self.page.wait_for_timeout(2500)

    def _open_templates(self) -> Locator:
        """The cards of all templates of this pack; some frontends add them while one scrolls."""
        self.page.get_by_role("button", name=re.compile("Tem.?plates")).first.click()
        self.page.get_by_text(PACK, exact=True).last.click()
        cards = self.page.locator(f"[data-testid^={CARD}]")
        cards.last.wait_for()
        seen = 0
        while seen < cards.count():
            seen = cards.count()
            cards.last.hover()
            self.page.mouse.wheel(0, 10_000)
            self.page.wait_for_timeout(1500)
        return cards

    def open_help(self, node_type: str) -> None:
        """Put a node in place of the workflow and open its help page."""
        self.page.evaluate(ADD_SELECTED, node_type)
        self.page.get_by_test_id("info-button").first.click()

    def drag_link(self, address: str) -> None:
        """Drag a link onto the canvas; hosts open the workflow it leads to."""
        link = self.page.locator(f"a[href='{address}']")
        link.scroll_into_view_if_needed()
        width, height = self._size
        place = {"x": width / 2, "y": height * 3 / 4}
        link.drag_to(self.page.locator("#graph-canvas"), target_position=place)
        self.page.wait_for_timeout(2500)

    def widths_of(self, text: str) -> list[int]:
        """Widths of the pictures that have this text in place of a picture that is not seen."""
        return [
            picture.evaluate("(image) => image.naturalWidth")
            for picture in self.page.get_by_alt_text(text).all()
        ]

    def values(self, number: int) -> dict[str, Any]:
        """Widget values of a node by name."""
        return self.page.evaluate(
            "(id) => Object.fromEntries((app.graph.getNodeById(id).widgets ?? [])"
            ".map((widget) => [widget.name, widget.value]))",
            number,
        )

    def bounds(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the graph, in canvas pixels."""
        left, top, right, bottom = self.page.evaluate(BOUNDS)
        return left, top, right, bottom

    def overlaps(self) -> list[list[str]]:
        """Titles of each two nodes that overlap."""
        return self.page.evaluate(OVERLAPS)

    def shows(self, pattern: str) -> int:
        """Count the elements whose text begins with this pattern."""
        return self.page.get_by_text(re.compile(f"^\\s*{pattern}")).count()

    def texts_are_drawn(self) -> bool:
        """Tell whether the canvas is near enough for the frontend to draw more than boxes."""
        return not self.page.evaluate("app.canvas.low_quality")

    def outside_the_page(self) -> list[str]:
        """Titles of nodes that are not seen as a whole."""
        return self.page.evaluate(OUTSIDE)

    def missing_nodes(self) -> list[str]:
        return self.page.evaluate(MISSING_NODES)

    def missing_choices(self) -> list[list[Any]]:
        """Node type, widget and value of each choice the host does not offer, but of nodes that are
        switched off."""
        return self.page.evaluate(MISSING_CHOICES)

    def wait_for_quiet(self) -> None:
        """Until the results of a finished job are drawn on the canvas."""
        self.page.wait_for_timeout(1500)

    def show_all(self) -> None:
        """Zoom so that the whole graph is seen beside the frontend's own bars."""
        self.look(view_of(self.bounds(), self._size))

    def look(self, view: dict[str, Any]) -> None:
        self.page.evaluate(
            "(view) => { Object.assign(app.canvas.ds, view);"
            " app.graph.setDirtyCanvas(true, true); }",
            view,
        )
        self.page.wait_for_timeout(800)

    def screenshot(self) -> Image.Image:
        """The canvas where the graph is, without the frontend's bars."""
        view = self.page.evaluate("({scale: app.canvas.ds.scale, offset: app.canvas.ds.offset})")
        x, y = view["offset"]
        edges = [
            (edge + shift) * view["scale"]
            for edge, shift in zip(self.bounds(), (x, y, x, y), strict=True)
        ]
        left, top, right, bottom = (round(edge) for edge in edges)
        picture = Image.open(io.BytesIO(self.page.screenshot()))
        return picture.crop((left - 16, top - 28, right + 24, bottom + 24))

    def run(self) -> Result:
        """Press Run and wait. Raises ``AssertionError`` when the host refuses the workflow."""
        with self.page.expect_response(
            lambda reply: reply.url.endswith("/prompt") and reply.request.method == "POST"
        ) as sent:
            self.page.get_by_role("button", name="Run").first.click()
        reply = sent.value.json()
        assert sent.value.status == 200, reply
        assert not reply["node_errors"], reply
        return Result(self._host, self._host.wait(reply["prompt_id"]))


def view_of(bounds: tuple[float, float, float, float], size: Size = USUAL_SIZE) -> dict[str, Any]:
    """Scale and offset at which a graph fills the canvas between the frontend's bars."""
    left, top, right, bottom = bounds
    width = size[0] - MARGINS[0] - MARGINS[2]
    height = size[1] - MARGINS[1] - MARGINS[3]
    scale = round(max(LEAST_SCALE, min(1.0, width / (right - left), height / (bottom - top))), 3)
    offset = [round(MARGINS[0] / scale - left), round(MARGINS[1] / scale - top)]
    return {"scale": scale, "offset": offset}
