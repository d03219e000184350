"""Workflows with the host's comparison slider, which older hosts have not; no host lists them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .graph import Node, Workflow
from .parts import (
    DENOISE,
    MORE_MODELS,
    OWN_PICTURE,
    REAL,
    REAL_WORLD_REPAIRS,
    X2,
    after,
    model,
    plain,
    restore,
    sample,
)

SLIDER = "ImageCompare"

USE = f"""
**Compare Images**: move the mouse over the picture: left of it is what was, right of it what \
SwinIR made. Where the node shows no picture, switch *Nodes 2.0* on in the menu under the logo.

{OWN_PICTURE}

{MORE_MODELS}
"""


def comparison(
    name: str, title: str, text: str, model_name: str, picture: str, scale: int, **degraded: Any
) -> Workflow:
    """A sample picture, a model, and the slider between before and after."""
    repairs = REAL_WORLD_REPAIRS if model_name == REAL else {}
    plainly = (plain(scale),) if scale > 1 else ()
    before = "plain.IMAGE" if scale > 1 else "sample.image"
    slider = Node(SLIDER, SLIDER, links={"image_a": before, "image_b": "restore.IMAGE"})
    row = (
        # Apart, because Nodes 2.0 draws nodes higher.
        (sample(picture, **degraded), replace(model(model_name), above=60)),
        (*plainly, replace(restore(values=repairs), above=60 * len(plainly))),
        (slider, after(title="")),
    )
    return Workflow(name, f"# {title}\n\nPress **Run**. {text}\n{USE}", (row,))


COMPARISONS: tuple[Workflow, ...] = (
    comparison(
        "compare_upscaled",
        "Upscale, and compare with a slider",
        "The picture is enlarged to twice its size, by SwinIR and without a model.",
        X2,
        "cat",
        2,
    ),
    comparison(
        "compare_denoised",
        "Remove noise, and compare with a slider",
        "The sample picture is made noisy, and the model takes the noise away.",
        DENOISE,
        "coffee",
        1,
        noise=25,
    ),
    comparison(
        "compare_real_world",
        "Restore a picture from the web, and compare with a slider",
        "The sample picture is made small, noisy and compressed. It is cleaned and enlarged four "
        "times by SwinIR, and enlarged without a model.",
        REAL,
        "astronaut",
        4,
        shrink=2,
        noise=5,
        jpeg_quality=60,
    ),
)
