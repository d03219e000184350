"""Nodes and sentences that several examples share."""

from __future__ import annotations

from typing import Any

from .graph import LARGE_PICTURE, PICTURE, Column, Node, Size, Workflow

OWN_PICTURE = (
    "Then delete **SwinIR Sample Image** and connect **Load Image** in its place to restore your "
    "own picture."
)
MORE_MODELS = (
    "The bundled models are small and quick. For the best quality put one of the published SwinIR "
    "files into *models/swinir*, press **R**, and choose it in **Load SwinIR Model**."
)

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
ESRGAN = "RealESRGAN_x4plus.safetensors"
HUGGING_FACE = "https://huggingface.co/Comfy-Org"
CHECKPOINT_PAGE = f"{HUGGING_FACE}/stable-diffusion-v1-5-archive/resolve/main/{CHECKPOINT}"
ESRGAN_PAGE = f"{HUGGING_FACE}/Real-ESRGAN_repackaged/resolve/main/{ESRGAN}"

X2 = "bundled/upscale x2 (light)"
X4 = "bundled/upscale x4 (light)"
REAL = "bundled/real x4 (light)"
DENOISE = "bundled/denoise color (light)"
DENOISE_GRAY = "bundled/denoise gray (light)"
JPEG = "bundled/jpeg color (light)"

REAL_WORLD_REPAIRS = {"edges": "mirrored", "colors": "input"}
"""Settings for the real-world model, which tints gray pictures and darkens corners."""


def sample(picture: str, key: str = "sample", title: str = "", **degraded: Any) -> Node:
    """A bundled picture, clean unless ``degraded`` says otherwise."""
    return Node(key, "SwinIRSampleImage", title, {"picture": picture, **degraded})


def model(name: str, key: str = "model", title: str = "") -> Node:
    return Node(key, "SwinIRModelLoader", title, {"model_name": name})


def restore(
    image: str = "sample.image", values: dict[str, Any] | None = None, **links: str
) -> Node:
    links = {"upscale_model": "model.UPSCALE_MODEL", "image": image, **links}
    return Node("restore", "SwinIRRestore", values=values or {}, links=links)


def preview(key: str, source: str, title: str, room: Size = PICTURE) -> Node:
    return Node(key, "PreviewImage", title, links={"images": source}, room=room)


def plain(scale: int) -> Node:
    """Makes the picture as large as the result, so that before and after compare."""
    return Node(
        "plain",
        "ImageScaleBy",
        "Enlarged without a model",
        {"upscale_method": "bicubic", "scale_by": float(scale)},
        {"image": "sample.image"},
    )


def before(source: str = "sample.image", title: str = "Before", room: Size = PICTURE) -> Node:
    return preview("before", source, title, room)


def enlarged(scale: int, restoring: Node) -> tuple[Column, Column]:
    """Columns in which a picture is enlarged by a model and without one, and then shown."""
    return (
        (restoring, plain(scale)),
        (after(room=LARGE_PICTURE), before("plain.IMAGE", "Without a model", LARGE_PICTURE)),
    )


def after(source: str = "restore.IMAGE", title: str = "After", room: Size = PICTURE) -> Node:
    """Saves the result; in as much ``room`` as the picture before, so that the two compare."""
    return Node(
        "after", "SaveImage", title, {"filename_prefix": "SwinIR"}, {"images": source}, room=room
    )


def simple(
    name: str,
    note: str,
    model_name: str,
    picture: str,
    focus: tuple[float, float],
    **degraded: Any,
) -> Workflow:
    """A sample picture, a model, and the pictures before and after."""
    restoring = restore(values=REAL_WORLD_REPAIRS if model_name == REAL else {})
    scale = {X2: 2, X4: 4, REAL: 4}.get(model_name)
    shown = enlarged(scale, restoring) if scale else ((restoring, before()), (after(),))
    row = ((sample(picture, **degraded), model(model_name)), *shown)
    return Workflow(name, note, (row,), focus=focus)
