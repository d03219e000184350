"""Workflows in API format, put together from nodes."""

from __future__ import annotations

from typing import Any

Node = dict[str, Any]


def node(class_type: str, **inputs: Any) -> Node:
    """A node; an input is a value or a ``link``."""
    return {"class_type": class_type, "inputs": inputs}


def link(node_id: str, output: int = 0) -> list[Any]:
    """What an output of another node gives."""
    return [node_id, output]


def upscaling(
    loader: Node, image: str, upscaler: str = "SwinIRRestore", **more: Node
) -> dict[str, Node]:
    """Load a model and an image, upscale, save. ``more`` nodes add to these or replace them."""
    return {
        "load": node("LoadImage", image=image),
        "loader": loader,
        "upscale": node(upscaler, upscale_model=link("loader"), image=link("load")),
        "save": node("SaveImage", images=link("upscale"), filename_prefix="test"),
        **more,
    }


def ours(model_name: str) -> Node:
    return node("SwinIRModelLoader", model_name=model_name)


def theirs(model_name: str) -> Node:
    return node("UpscaleModelLoader", model_name=model_name)


def tiled(side: int, overlap: int) -> Node:
    sides = {"tile_width": side, "tile_height": side}
    return node("SwinIRTileSettings", mode="tiled", overlap=overlap, **sides)


def from_saved(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Node]:
    """What the browser makes of a saved workflow when Run is pressed."""
    sources = {number: [str(source), slot] for number, source, slot, *_ in workflow["links"]}
    graph = {}
    for saved in workflow["nodes"]:
        if saved["type"] not in object_info:  # A note
            continue
        info = object_info[saved["type"]]["input"]
        known = {**info["required"], **info.get("optional", {})}
        values = iter(saved.get("widgets_values", []))
        inputs = {}
        for entry in saved["inputs"]:
            value = next(values) if "widget" in entry else None
            if entry["link"] is not None:
                inputs[entry["name"]] = sources[entry["link"]]
            elif "widget" in entry and entry["name"] in known:
                inputs[entry["name"]] = value
        graph[str(saved["id"])] = node(saved["type"], **inputs)
    return graph
