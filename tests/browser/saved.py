"""The example workflows as files."""

from __future__ import annotations

import json
from typing import Any

from tests.host.conftest import REPOSITORY
from tests.host.graphs import Node, node

FOLDER = REPOSITORY / "example_workflows"
EARLIER = sorted((REPOSITORY / "tests" / "browser" / "saved_earlier").glob("*.json"))
"""The example workflows of commit 2881457, from when nodes had fewer inputs."""

NOTE = "MarkdownNote"
MUTED = 2

Saved = dict[str, Any]
"""A node, or a whole workflow, as the frontend saves it."""


def read(name: str) -> Saved:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def host_nodes(workflow: Saved) -> list[Saved]:
    """All nodes but notes, which only the frontend knows, and those that are switched off."""
    return [
        saved for saved in workflow["nodes"] if saved["type"] != NOTE and saved["mode"] != MUTED
    ]


def values(saved: Saved) -> dict[str, Any]:
    """A node's widget values by name."""
    return saved.get("widgets_values_named") or {}


def inputs_of(info: dict[str, Any]) -> dict[str, list[Any]]:
    """Input name to type and options, of a node as ``/object_info`` tells it."""
    return {**info["input"].get("required", {}), **info["input"].get("optional", {})}


def to_prompt(workflow: Saved, object_info: dict[str, Any]) -> dict[str, Node]:
    """Make what the frontend sends of a saved workflow when Run is pressed."""
    sources = {number: [str(origin), slot] for number, origin, slot, *_ in workflow["links"]}
    graph = {}
    for saved in host_nodes(workflow):
        known = inputs_of(object_info[saved["type"]])
        linked = {
            entry["name"]: sources[entry["link"]]
            for entry in saved["inputs"]
            if entry["link"] is not None
        }
        chosen = {
            name: value
            for name, value in values(saved).items()
            if name in known or name.partition(".")[0] in known
        }
        graph[str(saved["id"])] = node(saved["type"], **{**chosen, **linked})
    return graph
