"""What an example workflow is made of: nodes in columns, told apart by a key of their own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Wants = Literal["checkpoint", "upscale model", "video"]

BRINGS: dict[str, Wants] = {
    "CheckpointLoaderSimple": "checkpoint",
    "UpscaleModelLoader": "upscale model",
    "LoadVideo": "video",
}
"""Nodes that name a file the user brings."""

PICTURE, LARGE_PICTURE = (390, 320), (540, 480)

SIZES: dict[str, tuple[int, int]] = {
    "CLIPTextEncode": (400, 140),
    "LoadVideo": (340, 340),
    "PreviewAny": (390, 170),
    "PreviewImage": PICTURE,
    "SaveImage": PICTURE,
    "SaveVideo": (390, 370),
}
"""Least width and height of nodes that show a picture or a text, in canvas pixels."""

GROWTH: dict[str, int] = {
    "KSampler": 240,
    "SwinIRImageQuality": 110,
    "SwinIRModelLoader": 110,
    "SwinIRRestore": 240,
}
"""Pixels by which a node becomes higher while it runs: live previews and lines of text."""

LEAST_WIDTH = 340
NOTE_WIDTH = 400

CAT, COFFEE, ROCKET, ASTRONAUT = (0.39, 0.38), (0.48, 0.35), (0.62, 0.8), (0.47, 0.35)
"""What is worth a look in each sample picture."""


@dataclass(frozen=True)
class Node:
    """One node. ``links`` name where inputs come from: ``"key.OUTPUT"``."""

    key: str
    type: str
    title: str = ""
    """The host's own name of the node where empty."""
    values: dict[str, Any] = field(default_factory=dict)
    """Widget values by widget name; the others keep their defaults."""
    links: dict[str, str] = field(default_factory=dict)
    download: str = ""
    """Where the frontend can fetch the model file this node names; empty where there is none."""
    room: tuple[int, int] = (LEAST_WIDTH, 0)
    """Least width and height in canvas pixels, where ``SIZES`` does not say more."""
    above: int = 0
    """Canvas pixels kept free above, for links to pass."""

    @property
    def size(self) -> tuple[int, int]:
        """Least width and height in canvas pixels."""
        width, height = SIZES.get(self.type, (0, 0))
        return max(width, self.room[0]), max(height, self.room[1])


@dataclass(frozen=True)
class Workflow:
    """One example: a note, and columns of nodes from left to right.

    The keys ``before`` and ``after`` are those of the nodes whose pictures make the thumbnail.
    """

    name: str
    note: str
    """Markdown; what the example does and what to change."""
    columns: tuple[tuple[Node, ...], ...]
    focus: tuple[float, float] = CAT
    """What the thumbnail is centred on, as parts of the width and height."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(node for column in self.columns for node in column)

    @property
    def wants(self) -> Wants | None:
        """What the user has to bring before it runs."""
        return next((BRINGS[node.type] for node in self.nodes if node.type in BRINGS), None)

    def number(self, key: str) -> int:
        """The number of a node in the saved file; the note is the first."""
        return 2 + [node.key for node in self.nodes].index(key)

    def plan(self) -> dict[str, Any]:
        """All that the page needs to build it, as JSON knows it."""
        return {
            "note": self.note.strip(),
            "noteWidth": NOTE_WIDTH,
            "columns": [
                [
                    {
                        "key": node.key,
                        "type": node.type,
                        "title": node.title,
                        "values": node.values,
                        "links": {name: source.split(".") for name, source in node.links.items()},
                        "size": node.size,
                        "above": node.above,
                        "growth": GROWTH.get(node.type, 0),
                        "download": node.download,
                    }
                    for node in column
                ]
                for column in self.columns
            ],
        }
