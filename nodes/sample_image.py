"""The node that supplies a picture to try a graph on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from comfy_api.latest import io
from torch import Tensor

from ..swinir_core.choices import ALL, SAMPLES, TEXTURE
from . import host

NO_JPEG = 100


class SwinIRSampleImage(io.ComfyNode):
    """A bundled picture, clean or degraded, and what it should become."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRSampleImage",
            display_name="SwinIR Sample Image",
            category="image",
            description=(
                "Supplies a small photograph or texture that comes with the pack, clean or "
                "shrunk, noisy or compressed by a chosen amount, so that a workflow runs without "
                "any upload."
            ),
            search_aliases=["swinir", "example image", "test image", "degrade", "add noise"],
            inputs=[
                io.Combo.Input(
                    "picture",
                    options=[*SAMPLES, ALL, TEXTURE],
                    tooltip=(
                        "The photograph; all gives a batch of all four, cut to one size. They are "
                        "in the public domain or CC0. Change it to see another subject. Choose "
                        "terrazzo, a drawn texture whose edges fit together, to try edges wrapped."
                    ),
                ),
                io.Int.Input(
                    "shrink",
                    default=1,
                    min=1,
                    max=4,
                    optional=True,
                    tooltip=(
                        "Divides both sides, by the bicubic filter of the paper. Set it to the "
                        "scale of the model to see what an enlargement recovers; 1 keeps the size."
                    ),
                ),
                io.Int.Input(
                    "noise",
                    default=0,
                    min=0,
                    max=75,
                    optional=True,
                    tooltip=(
                        "Strength of Gaussian noise, as the standard deviation in levels of 255. "
                        "Denoising models are trained for 15, 25 or 50; 0 adds none."
                    ),
                ),
                io.Int.Input(
                    "jpeg_quality",
                    default=NO_JPEG,
                    min=5,
                    max=NO_JPEG,
                    optional=True,
                    tooltip=(
                        "Quality of a JPEG file the picture goes through; 10 shows blocks clearly, "
                        "40 hardly. 100 means that nothing is compressed."
                    ),
                ),
                io.Boolean.Input(
                    "gray",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Makes the picture and the original gray, before all else, for models of "
                        "gray images."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**32 - 1,
                    # Without this the name alone makes the frontend draw a new one after each run.
                    control_after_generate=False,
                    optional=True,
                    tooltip=(
                        "Chooses the noise, and has an effect only where noise is above 0. The "
                        "same number gives the same noise."
                    ),
                ),
                io.Int.Input(
                    "frames",
                    default=1,
                    min=1,
                    max=240,
                    optional=True,
                    tooltip=(
                        "How many views of a photograph are supplied. 1 is the whole of it; more "
                        "are three quarters that move across, each with noise of its own, as the "
                        "frames of a short video."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image",
                    tooltip="The picture as chosen, to be restored; one, or all frames.",
                ),
                io.Image.Output(
                    display_name="original",
                    tooltip=(
                        "The clean picture in full size: what a perfect restoration would give. "
                        "Connect it to SwinIR Image Quality as the reference."
                    ),
                ),
            ],
        )

    @classmethod
    @host.plain_errors
    def execute(
        cls,
        picture: str,
        shrink: int = 1,
        noise: int = 0,
        jpeg_quality: int = NO_JPEG,
        gray: bool = False,
        seed: int = 0,
        frames: int = 1,
    ) -> io.NodeOutput:
        from ..swinir_core.degradation.samples import degraded, read_samples, views

        quality = None if jpeg_quality == NO_JPEG else jpeg_quality
        pictures = [view for whole in read_samples(picture) for view in views(whole, frames)]
        images, originals = zip(
            *(
                degraded(view, shrink, noise, quality, gray, seed + number)
                for number, view in enumerate(pictures)
            ),
            strict=True,
        )
        return io.NodeOutput(_to_batch(images), _to_batch(originals))


def _to_batch(pictures: Sequence[np.ndarray]) -> Tensor:
    """Stack equally large pictures (H, W, 3) to the host's (B, H, W, 3)."""
    return host.to_intermediate(torch.from_numpy(np.stack(pictures)))
