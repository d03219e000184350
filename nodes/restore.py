"""The node that restores images."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..swinir_core.choices import ALPHAS, COLORS, EDGES, PRECISIONS, SIZE_VALUE, SIZES
from . import host
from .tile_settings import TileSettingsType


class SwinIRRestore(io.ComfyNode):
    """Runs an ``UPSCALE_MODEL`` over images, whole where they fit the memory, else in tiles."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRRestore",
            display_name="Upscale or Restore (SwinIR)",
            category="image/upscaling",
            description=(
                "Enlarges, denoises or deblocks images with a SwinIR model: whole images where "
                "they fit the memory, evenly placed tiles where not. Handles batches, gray images "
                "and alpha, and also runs upscale models of other architectures."
            ),
            search_aliases=["swinir", "upscale", "super resolution", "denoise", "enhance", "jpeg"],
            inputs=[
                io.UpscaleModel.Input(
                    "upscale_model",
                    tooltip=(
                        "The model to run, from Load SwinIR Model or the host's own Load Upscale "
                        "Model. It decides by how much the image is enlarged."
                    ),
                ),
                io.Image.Input(
                    "image",
                    tooltip=(
                        "One image or a batch, such as the frames of a video. An alpha channel is "
                        "enlarged along, or restored too as alpha says."
                    ),
                ),
                io.Combo.Input(
                    "precision",
                    options=["auto", *PRECISIONS],
                    default="auto",
                    optional=True,
                    **host.advanced(io.Combo.Input),
                    tooltip=(
                        "auto computes in half precision on graphics cards made for it and in "
                        "float32 everywhere else. float32 is exact and takes the most memory. "
                        "Choose it for models of other architectures too where fine detail has to "
                        "be exact. Those that do not work in half precision run in float32."
                    ),
                ),
                io.Boolean.Input(
                    "ensemble",
                    default=False,
                    optional=True,
                    **host.advanced(io.Boolean.Input),
                    tooltip=(
                        "Restores the image turned and mirrored in all eight ways and takes the "
                        "mean, the paper's self-ensemble: a little better, eight times as long."
                    ),
                ),
                TileSettingsType.Input(
                    "tile_settings",
                    optional=True,
                    tooltip=(
                        "Connect SwinIR Tile Settings only to change when and how large images "
                        "are cut; without it the memory decides."
                    ),
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip=(
                        "Restores only where the mask is white; elsewhere the image is kept, "
                        "enlarged plainly by the model's scale. A mask of another size is "
                        "stretched. Tiles that it does not touch are not computed."
                    ),
                ),
                io.Combo.Input(
                    "edges",
                    options=list(EDGES),
                    default=EDGES[0],
                    optional=True,
                    **host.advanced(io.Combo.Input),
                    tooltip=(
                        "What the model sees beyond the edges of the image. network leaves it to "
                        "the model, as the official one does. Choose mirrored where corners or "
                        "borders come out too dark or tinted; it computes 8 pixels more on every "
                        "side. Choose wrapped for seamless textures, wrapped horizontally or "
                        "vertically for panoramas: opposite edges then fit together in the "
                        "result too."
                    ),
                ),
                io.Combo.Input(
                    "colors",
                    options=list(COLORS),
                    default=COLORS[0],
                    optional=True,
                    tooltip=(
                        "model leaves colors as the model gives them. Choose input where it shifts "
                        "them: slow changes of color and brightness are then those of the input, "
                        "and gray pictures stay gray."
                    ),
                ),
                io.Combo.Input(
                    "alpha",
                    options=list(ALPHAS),
                    default=ALPHAS[0],
                    optional=True,
                    **host.advanced(io.Combo.Input),
                    tooltip=(
                        "How an alpha channel becomes as large as the result. enlarged stretches "
                        "it. restored runs the model over it too, which takes up to twice as long: "
                        "sharper outlines and lettering with models for clean pictures; soft "
                        "shadows are better enlarged."
                    ),
                ),
                io.Combo.Input(
                    "size",
                    options=list(SIZES),
                    default=SIZES[0],
                    optional=True,
                    tooltip=(
                        "The size of the result. model enlarges by the model's scale. For any "
                        "other size choose factor, longer side (in pixels) or megapixels and set "
                        "size_value: the model runs as often as that takes, and what is too large "
                        "is shrunk, one image at a time."
                    ),
                ),
                io.Float.Input(
                    "size_value",
                    default=SIZE_VALUE,
                    min=0.01,
                    max=100_000,
                    step=0.01,
                    optional=True,
                    tooltip=(
                        "The factor, the pixels of the longer side or the megapixels that size "
                        "asks for. Has no effect where size is model."
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip=(
                        "How much of the model's picture is in the result; the rest is the image "
                        "plainly resized. Lower it where the model does too much, such as skin "
                        "that becomes too smooth."
                    ),
                ),
            ],
            outputs=[
                io.Image.Output(
                    tooltip=(
                        "The restored images, larger by the model's scale or of the size asked "
                        "for, gray ones in three equal channels."
                    ),
                ),
            ],
        )

    @classmethod
    @host.plain_errors
    def execute(
        cls,
        upscale_model: Any,
        image: Tensor,
        precision: str = "auto",
        mask: Tensor | None = None,
        **options: Any,
    ) -> io.NodeOutput:
        from .running.restoration import Restoration

        restoration = Restoration(upscale_model, precision, **options)
        restored = restoration.run(host.Progress(), image, mask)
        return io.NodeOutput(host.to_intermediate(host.in_three_channels(restored)))
