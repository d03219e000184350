"""Parts of an example workflow: nodes in rows of columns, each with a key of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Wants = Literal["checkpoint", "upscale model"]

BRINGS: dict[str, Wants] = {
    "CheckpointLoaderSimple": "checkpoint",
    "UpscaleModelLoader": "upscale model",
}
"""Nodes that name a file the user brings."""

Size: TypeAlias = tuple[int, int]

PICTURE, LARGE_PICTURE = (340, 300), (540, 480)
"""Room for a picture that keeps its size, and for one that is enlarged."""

SIZES: dict[str, Size] = {
    "CLIPTextEncode": (320, 140),
    "ImageCompare": (540, 520),
    "PreviewAny": (340, 130),
    "PreviewImage": PICTURE,
    "SaveImage": PICTURE,
    "SaveVideo": (340, 330),
    "SwinIRBlendModels": (0, 210),
    "SwinIRImageQuality": (0, 190),
    "SwinIRLookAtImage": (340, 260),
    "SwinIRModelLoader": (0, 150),
    "SwinIRRestoreFolder": (460, 760),
    "SwinIRSaveFolder": (340, 420),
}
"""Least width and height of nodes that show a picture or a text, in canvas pixels."""

GROWTH: dict[str, int] = {
    "KSampler": 240,
    "SwinIRBlendModels": 70,
    "SwinIRImageQuality": 70,
    "SwinIRLoadFolder": 70,
    "SwinIRLookAtImage": 110,
    "SwinIRModelLoader": 70,
    "SwinIRRestore": 240,
    "SwinIRRestoreFolder": 70,
    "SwinIRRestoreVideo": 260,
    "SwinIRSaveFolder": 70,
}
"""Pixels by which a node becomes higher while it runs: live previews and lines of text."""

LEAST_WIDTH = 300
NOTE_WIDTH = 340

CAT, COFFEE, ROCKET, ASTRONAUT = (0.39, 0.38), (0.48, 0.35), (0.5, 0.78), (0.47, 0.35)
COLLAR, SPOON, MIDDLE, WHISKERS = (0.45, 0.75), (0.63, 0.68), (0.5, 0.5), (0.5, 0.6)
SEAM = (0.57, 0.5)
"""Places worth a look in the sample pictures; where four copies of one meet, left of the middle of
the thumbnail."""


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
    """Address from which the frontend can fetch the model file; empty where there is none."""
    room: Size = (LEAST_WIDTH, 0)
    """Least width and height in canvas pixels, where ``SIZES`` does not say more."""
    above: int = 0
    """Canvas pixels kept free above, for links to pass."""
    muted: bool = False
    """True where it waits, switched off, for the user to need it."""

    @property
    def size(self) -> Size:
        """Least width and height in canvas pixels."""
        width, height = SIZES.get(self.type, (0, 0))
        return max(width, self.room[0]), max(height, self.room[1])


Column: TypeAlias = tuple[Node, ...]
Row: TypeAlias = tuple[Column, ...]


@dataclass(frozen=True)
class Workflow:
    """One example: a note, and rows of columns of nodes, so few in a row that all texts can be read
    on a page of 1440x900.

    The keys ``before`` and ``after`` are those of the nodes whose pictures make the thumbnail.
    """

    name: str
    """Name in the list of templates, and the name of the file. The number in front puts
    it where it is in ``WORKFLOWS``: hosts list files in the order of their names."""
    note: str
    """Markdown; what the example does and what to change."""
    rows: tuple[Row, ...]
    focus: tuple[float, float] = CAT
    """Centre of the thumbnail, as parts of the width and height."""
    stand_in: Workflow | None = None
    """Runs for the thumbnail in place of one that needs a file of the user's."""

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(node for row in self.rows for column in row for node in column)

    @property
    def slug(self) -> str:
        """Its name in addresses, without the number."""
        return self.name.lower().replace(" ", "_").lstrip("0123456789_")

    @property
    def wants(self) -> Wants | None:
        """The file that the user has to bring before it runs."""
        return next((BRINGS[node.type] for node in self.nodes if node.type in BRINGS), None)

    def number(self, key: str) -> int:
        """The number of a node in the saved file; the note is the first."""
        return 2 + [node.key for node in self.nodes].index(key)

    def plan(self) -> dict[str, Any]:
        """All that the page needs to build it, as JSON knows it."""
        return {
            "note": self.note.strip(),
            "noteWidth": NOTE_WIDTH,
            "rows": [[[_plan(node) for node in column] for column in row] for row in self.rows],
        }


def _plan(node: Node) -> dict[str, Any]:
    return {
        "key": node.key,
        "type": node.type,
        "title": node.title,
        "values": node.values,
        "links": {name: source.split(".") for name, source in node.links.items()},
        "size": node.size,
        "above": node.above,
        "growth": GROWTH.get(node.type, 0),
        "download": node.download,
        "muted": node.muted,
    }
