"""Take the pictures of the help pages, nodes/web/docs/images/<node id>.png, in the real frontend.

python -m tests.browser.help_pictures

Needs what ``tests.browser.build`` needs.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser.frontend import MARGINS, Frontend, find_chromium, open_frontend
from tests.browser.workflows.graph import Node, Workflow
from tests.browser.workflows.parts import DENOISE, JPEG, X2, after, before, model, restore, sample
from tests.host.comfy_host import ComfyHost
from tests.host.conftest import REPOSITORY, find_home, find_python

IMAGES = REPOSITORY / "nodes" / "web" / "docs" / "images"
TITLE, EDGE = 30, 8

ALL_NODES = Workflow(
    "help",
    "All nodes of the pack.",
    ((
        (model(DENOISE, "model_a"), model(JPEG, "model_b")),
        (Node("blend", "SwinIRBlendModels", links={
            "model_a": "model_a.UPSCALE_MODEL", "model_b": "model_b.UPSCALE_MODEL"
        }), Node("show", "PreviewAny", links={"source": "blend.UPSCALE_MODEL"})),
    ), (
        (sample("cat", shrink=2), model(X2)),
        (Node("tiles", "SwinIRTileSettings"), before(), Node(
            "look", "SwinIRLookAtImage", links={"image": "sample.image"}
        )),
        (restore(tile_settings="tiles.tile_settings"), Node(
            "save", "SwinIRSaveModel", links={"upscale_model": "model.UPSCALE_MODEL"}, above=40
        )),
        (after(), Node("quality", "SwinIRImageQuality", values={"border": 2}, links={
            "image": "restore.IMAGE", "reference": "sample.original"
        })),
        (Node("made", "CreateVideo", values={"fps": 8.0}, links={"images": "sample.image"}), Node(
            "video", "SwinIRRestoreVideo", links={
                "upscale_model": "model.UPSCALE_MODEL", "video": "made.VIDEO"
            }
        ), Node("saved", "SaveVideo", links={"video": "video.VIDEO"})),
    ), (
        (Node("load", "SwinIRLoadFolder", values={"folder": "bundled/samples"}),),
        (Node("save_folder", "SwinIRSaveFolder", links={
            "images": "load.images", "names": "load.names"
        }),),
        (Node("folder", "SwinIRRestoreFolder", values={"folder": "bundled/samples"}, links={
            "upscale_model": "model.UPSCALE_MODEL"
        }),),
    )),
)  # fmt: skip


def main() -> None:
    chromium = find_chromium()
    if chromium is None:
        sys.exit("Chromium was not found; set CHROMIUM_PATH to its program.")
    IMAGES.mkdir(parents=True, exist_ok=True)
    home = find_home()
    with tempfile.TemporaryDirectory() as folder:
        host = ComfyHost(home, find_python(home), REPOSITORY, Path(folder) / "base")
        try:
            host.wait_until_ready()
            with open_frontend(host, chromium) as frontend:
                frontend.draw(ALL_NODES)
                assert frontend.run().succeeded
                frontend.wait_for_quiet()
                for node in ALL_NODES.nodes:
                    if node.type.startswith("SwinIR"):
                        picture = picture_of(frontend, ALL_NODES.number(node.key))
                        picture.quantize(128).save(IMAGES / f"{node.type}.png", optimize=True)
        finally:
            host.stop()


def picture_of(frontend: Frontend, number: int) -> Image.Image:
    """One node as it is on the canvas at full size."""
    x, y, width, height = frontend.page.evaluate(
        "(id) => { const n = app.graph.getNodeById(id); return [...n.pos, ...n.size]; }", number
    )
    left, top = MARGINS[0] + 20, MARGINS[1] + 60
    frontend.look({"scale": 1, "offset": [left - x, top - y]})
    box = (left - EDGE, top - TITLE - EDGE, left + width + EDGE, top + height + EDGE)
    return Image.open(io.BytesIO(frontend.page.screenshot())).convert("RGB").crop(box)


if __name__ == "__main__":
    main()
