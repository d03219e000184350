"""The node that says how large images are cut."""

from __future__ import annotations

from comfy_api.latest import io

from ..swinir_core import TileSettings
from ..swinir_core.tiling import MODES
from . import host

TileSettingsType = io.Custom("SWINIR_TILE_SETTINGS")


class SwinIRTileSettings(io.ComfyNode):
    """Widgets for the fields of ``TileSettings``."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = TileSettings()
        return host.schema(
            node_id="SwinIRTileSettings",
            display_name="SwinIR Tile Settings",
            category="image/upscaling",
            description=(
                "Says when and how SwinIR Restore cuts an image into tiles. Without this node it "
                "processes the whole image at once, and cuts only what does not fit the memory."
            ),
            search_aliases=["swinir", "tile", "tiling", "overlap", "seams"],
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=defaults.mode,
                    tooltip=(
                        "auto cuts only what does not fit the memory, into the largest tiles that "
                        "do. Choose whole to never cut, or tiled to always cut into tiles of "
                        "tile_size, for example to keep memory free for other programs."
                    ),
                ),
                io.Int.Input(
                    "tile_size",
                    default=defaults.tile_size,
                    min=32,
                    max=8192,
                    step=8,
                    tooltip=(
                        "Side of a tile in input pixels, overlaps included; only for the mode "
                        "tiled. Lower it when memory runs out; larger tiles compute fewer pixels "
                        "twice."
                    ),
                ),
                io.Int.Input(
                    "overlap",
                    default=0,
                    min=0,
                    max=4096,
                    step=8,
                    tooltip=(
                        "Input pixels that neighbouring tiles share, at most half the tile size. "
                        "0 finds what the model needs for no seam to show. Set it lower to "
                        "compute fewer pixels twice, or higher when you see seams all the same."
                    ),
                ),
            ],
            outputs=[
                TileSettingsType.Output(
                    display_name="tile_settings",
                    tooltip="Connect it to the tile_settings input of SwinIR Restore.",
                ),
            ],
        )

    @classmethod
    def execute(cls, mode: str, tile_size: int, overlap: int) -> io.NodeOutput:
        return io.NodeOutput(TileSettings(mode, tile_size, overlap or None))
