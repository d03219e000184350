"""Workflows in API format, put together from nodes."""

from __future__ import annotations

from typing import Any

Node = dict[str, Any]


def node(class_type: str, **inputs: Any) -> Node:
    """A node; an input is a value or a ``link``."""
    return {"class_type": class_type, "inputs": inputs}


def link(node_id: str, output: int = 0) -> list[Any]:
    """Refer to an output of another node."""
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
