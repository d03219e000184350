"""The node that mixes two models into one."""

from __future__ import annotations

import logging
import textwrap
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from comfy_api.latest import io

from . import host

if TYPE_CHECKING:
    from ..swinir_core import Checkpoint

TRIED = "_swinir_blends"
"""Attribute of a model: warnings about its blends, by the other models."""

LINE = 42
"""Letters of a line that fits the node."""


class SwinIRBlendModels(io.ComfyNode):
    """Mixes the weights of two SwinIR models, and says where they do not mix."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRBlendModels",
            display_name="SwinIR Blend Models",
            category=host.loader_category(),
            description=(
                "Mixes two SwinIR models into one that is as fast as either: between two strengths "
                "of denoising, between a faithful model and one that invents detail, or between "
                "denoising and removing JPEG artefacts. Both must have the same shape."
            ),
            search_aliases=["swinir", "merge models", "mix models", "interpolate", "strength"],
            inputs=[
                io.UpscaleModel.Input(
                    "model_a",
                    tooltip=(
                        "A SwinIR from Load SwinIR Model or from the host's own Load Upscale "
                        "Model. An amount of 0 gives this model."
                    ),
                ),
                io.UpscaleModel.Input(
                    "model_b",
                    tooltip=(
                        "A SwinIR of the same shape, best one that was trained from model_a or "
                        "from the same third model. An amount of 1 gives this model."
                    ),
                ),
                io.Float.Input(
                    "amount",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    round=0.001,
                    display_mode=io.NumberDisplay.slider,
                    tooltip=(
                        "How much of model_b is in the blend. Raise it where model_a does too "
                        "little of what model_b does, lower it where the result looks too much "
                        "like that of model_b."
                    ),
                ),
            ],
            outputs=[
                io.UpscaleModel.Output(
                    tooltip=(
                        "Connect it to Upscale or Restore (SwinIR), to Save SwinIR Model to keep "
                        "it, or to any other node that takes an upscale model."
                    ),
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.plain_errors
    def execute(cls, model_a: Any, model_b: Any, amount: float = 0.5) -> io.NodeOutput:
        from ..swinir_core.checkpoints.blending import BLENDED, blend
        from ..swinir_core.checkpoints.models import describe
        from .running.runnable import to_checkpoint
        from .running.upscale_model import SwinIRUpscaleModel

        a, b = (
            to_checkpoint(model, f"SwinIR Blend Models blends only SwinIR models; {name}")
            for name, model in (("model_a", model_a), ("model_b", model_b))
        )
        blended = blend(a, b, amount)
        text = f"{describe(blended)},\n{blended.metadata[BLENDED]}".replace(" + ", "\n+ ")
        warning = kept_warning(model_a, model_b, a, b)
        if warning:
            logging.warning("SwinIR Blend Models: %s", warning)
            text = f"{warning}\n{text}"
        text = "\n".join(textwrap.fill(line, LINE) for line in text.splitlines())
        host.show_text(cls, text)
        return io.NodeOutput(SwinIRUpscaleModel(blended), ui={"text": [text]})


def kept_warning(model_a: Any, model_b: Any, a: Checkpoint, b: Checkpoint) -> str:
    """The warning about a pair of models, empty where they blend. It is kept on ``model_a`` as long
    as both live, so that moving the slider computes the blend alone."""
    from ..swinir_core.checkpoints.blending import blend_warning
    from ..swinir_core.degradation.samples import inputs_of_tasks

    tried = vars(model_a).setdefault(TRIED, WeakKeyDictionary())
    if model_b not in tried:
        tasks = (a.config.task, b.config.task)
        pairs = inputs_of_tasks(tasks, a.config.scale, a.config.in_channels)
        tried[model_b] = blend_warning(a, b, pairs)
    return tried[model_b]
