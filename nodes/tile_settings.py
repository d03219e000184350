"""The node that says how large images are cut."""

from __future__ import annotations

from comfy_api.latest import io

from ..swinir_core.choices import MODES, TILE_SIDE
from . import host

TileSettingsType = io.Custom("SWINIR_TILE_SETTINGS")


class SwinIRTileSettings(io.ComfyNode):
    """Widgets for the fields of ``TileSettings``."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return host.schema(
            node_id="SwinIRTileSettings",
            display_name="SwinIR Tile Settings",
            category="image/upscaling",
            description=(
                "Says when and how Upscale or Restore (SwinIR) cuts an image into tiles. Without "
                "this node it processes the whole image at once, and cuts only what does not fit "
                "the memory."
            ),
            search_aliases=["swinir", "tile", "tiling", "overlap", "seams", "memory"],
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=MODES[0],
                    tooltip=(
                        "auto cuts only what does not fit the memory, into the largest tiles that "
                        "do. Choose whole to never cut, or tiled to always cut into tiles of "
                        "tile_width and tile_height, for example to watch the picture appear. "
                        "For models of other architectures auto takes tiles of 512x512 pixels at "
                        "most."
                    ),
                ),
                io.Int.Input(
                    "tile_width",
                    default=TILE_SIDE,
                    min=32,
                    max=8192,
                    step=8,
                    optional=True,
                    tooltip=(
                        "The greatest width of a tile in input pixels, overlaps included; tiles "
                        "are made equal, so they may be narrower. Has an effect only in the mode "
                        "tiled. Lower it when memory runs out; larger tiles compute fewer pixels "
                        "twice."
                    ),
                ),
                io.Int.Input(
                    "tile_height",
                    default=TILE_SIDE,
                    min=32,
                    max=8192,
                    step=8,
                    optional=True,
                    tooltip=(
                        "The greatest height of a tile in input pixels, overlaps included. Has an "
                        "effect only in the mode tiled."
                    ),
                ),
                io.Int.Input(
                    "overlap",
                    default=0,
                    min=0,
                    optional=True,
                    max=4096,
                    step=8,
                    tooltip=(
                        "Input pixels that neighbouring tiles share, in the mode tiled at most "
                        "half the smaller side of a tile. 0 finds what the model needs for no seam "
                        "to show, as far as tiles are twice as large: 40 to 48 with the bundled "
                        "models. Set it lower to compute fewer pixels twice, or higher when you "
                        "still see seams."
                    ),
                ),
                io.Int.Input(
                    "batch",
                    default=0,
                    min=0,
                    optional=True,
                    max=4096,
                    tooltip=(
                        "How many tiles or small images of equal size are run together at most, "
                        "as far as the memory allows. 0 runs as many together as make it faster; "
                        "1 takes the least memory."
                    ),
                ),
                io.Int.Input(
                    "memory_budget",
                    default=0,
                    min=0,
                    optional=True,
                    max=2**20,
                    tooltip=(
                        "Megabytes that a run may take beside the model and the images. In the "
                        "mode auto images are cut to fit it, as far as tiles can be that small; "
                        "a few megabytes only make it take very long. 0 allows all that is free, "
                        "which is also the most it can be."
                    ),
                ),
            ],
            outputs=[
                TileSettingsType.Output(
                    display_name="tile_settings",
                    tooltip="Connect it to the tile_settings input of Upscale or Restore (SwinIR).",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        mode: str,
        tile_width: int = TILE_SIDE,
        tile_height: int = TILE_SIDE,
        overlap: int = 0,
        batch: int = 0,
        memory_budget: int = 0,
    ) -> io.NodeOutput:
        from ..swinir_core import TileSettings

        settings = TileSettings(
            mode,
            (tile_height, tile_width),
            overlap=overlap or None,
            at_once=batch or None,
            memory_budget=memory_budget * 10**6 or None,
        )
        return io.NodeOutput(settings)
