"""The node that measures how close an image comes to another."""

from __future__ import annotations

import math

from comfy_api.latest import io
from torch import Tensor

from . import host

LUMA = "Y (luma)"
CHANNELS = (LUMA, "RGB")


class SwinIRImageQuality(io.ComfyNode):
    """PSNR and SSIM, on the node and as numbers."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRImageQuality",
            display_name="SwinIR Image Quality",
            category="image",
            description=(
                "Measures how close an image comes to a reference of the same size: PSNR and SSIM, "
                "computed as in the SwinIR paper. Higher is closer."
            ),
            search_aliases=["swinir", "psnr", "ssim", "compare images", "metric", "similarity"],
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="The image to measure, such as a restored one, or a batch of them.",
                ),
                io.Image.Input(
                    "reference",
                    tooltip=(
                        "What the image should be, in the same size: one for each image of a "
                        "batch, or one for all."
                    ),
                ),
                io.Combo.Input(
                    "channel",
                    options=list(CHANNELS),
                    default=LUMA,
                    optional=True,
                    tooltip=(
                        "Y compares brightness only, as the paper does for enlarged images. RGB "
                        "compares all colors, as the paper does for denoising and JPEG artefacts."
                    ),
                ),
                io.Int.Input(
                    "border",
                    default=0,
                    min=0,
                    max=4096,
                    optional=True,
                    tooltip=(
                        "Pixels left out on every side. For enlarged images the paper leaves out "
                        "as many as the scale, for others 0."
                    ),
                ),
            ],
            outputs=[
                io.Float.Output(
                    display_name="psnr",
                    tooltip=(
                        "Peak signal-to-noise ratio in dB, the mean over the batch; infinite for "
                        "identical images."
                    ),
                ),
                io.Float.Output(
                    display_name="ssim",
                    tooltip="Structural similarity, the mean over the batch; 1 where identical.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    @host.plain_errors
    def execute(
        cls, image: Tensor, reference: Tensor, channel: str = LUMA, border: int = 0
    ) -> io.NodeOutput:
        from ..swinir_core.images.quality import compare

        host.check_choice("channel", channel, CHANNELS)
        progress = host.Progress()

        def scored(done: int, count: int) -> None:
            host.interrupted()
            progress.advance(done, count)

        quality = compare(image, reference, border, channel == LUMA, scored)
        host.show_text(cls, str(quality))
        # More digits than anyone compares fill the nodes that show a number.
        psnr, ssim = round(quality.psnr, 4), round(quality.ssim, 6)
        # For whoever runs the graph by the API. JSON has no number for infinity.
        shown = {
            "text": [str(quality)],
            "psnr": [psnr if math.isfinite(psnr) else None],
            "ssim": [ssim],
        }
        return io.NodeOutput(psnr, ssim, ui=shown)
