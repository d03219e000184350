"""The node that restores videos."""

from __future__ import annotations

import logging
from typing import Any

from comfy_api.latest import io

from ..swinir_core.video_files.encoding import CODECS, PIXEL_FORMATS, Encoding
from . import host
from .restore import SwinIRRestore

SHARED = ("precision", "tile_settings", "colors")
SHARED_LATER = ("edges", "size", "size_value", "strength")
"""Inputs that are those of the restore node; the second behind those of the file, because saved
workflows keep values by position."""


class SwinIRRestoreVideo(io.ComfyNode):
    """Runs an ``UPSCALE_MODEL`` over the frames of a ``VIDEO``, a few in memory at a time."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        of_restore = {option.id: option for option in SwinIRRestore.define_schema().inputs}
        return host.schema(
            node_id="SwinIRRestoreVideo",
            display_name="Upscale or Restore Video (SwinIR)",
            category="image/upscaling",
            description=(
                "Enlarges, denoises or deblocks a video of any length with a SwinIR model: frames "
                "are read, restored and written a few at a time. Sound, speed and colors are kept."
            ),
            search_aliases=["swinir", "video upscale", "upscale video", "denoise video"],
            inputs=[
                io.UpscaleModel.Input(
                    "upscale_model",
                    tooltip=(
                        "The model to run, from Load SwinIR Model or the host's own Load Upscale "
                        "Model. It decides by how much the video is enlarged."
                    ),
                ),
                io.Video.Input(
                    "video",
                    tooltip=(
                        "The video, from Load Video, or from Create Video for frames made in the "
                        "workflow. Connect Trim Video in between to restore a part, where the host "
                        "has it."
                    ),
                ),
                *(of_restore[name] for name in SHARED),
                io.Combo.Input(
                    "codec",
                    options=list(CODECS),
                    default=Encoding.codec,
                    optional=True,
                    tooltip=(
                        "h264 plays everywhere. h265 and av1 make files of half the size, which "
                        "older devices and some browsers do not play."
                    ),
                ),
                io.Int.Input(
                    "crf",
                    default=Encoding.crf,
                    min=0,
                    max=51,
                    optional=True,
                    tooltip=(
                        "Quality of the file: lower is better and larger. 18 can hardly be told "
                        "from the restored frames; set 23 for smaller files, or 12 to edit the "
                        "video further."
                    ),
                ),
                io.Combo.Input(
                    "pixel_format",
                    options=list(PIXEL_FORMATS),
                    default=Encoding.pixel_format,
                    optional=True,
                    tooltip=(
                        "yuv420p plays everywhere. Choose 10le to keep the 10 bits of a video that "
                        "has them, which HDR needs, and 444p to keep fine color and odd sizes; "
                        "few devices play these with h264."
                    ),
                ),
                *(of_restore[name] for name in SHARED_LATER),
                io.Boolean.Input(
                    "reduce_flicker",
                    default=False,
                    optional=True,
                    tooltip=(
                        "Mixes each frame with the one before where nothing moves. Turn it on "
                        "where noise makes still parts of the restored video shimmer."
                    ),
                ),
            ],
            outputs=[
                io.Video.Output(
                    tooltip=(
                        "The restored video, a file in the temp folder of the host. Save Video "
                        "copies it as it is."
                    ),
                ),
            ],
        )

    @classmethod
    @host.plain_errors
    def execute(
        cls,
        upscale_model: Any,
        video: Any,
        codec: str = Encoding.codec,
        crf: int = Encoding.crf,
        pixel_format: str = Encoding.pixel_format,
        reduce_flicker: bool = False,
        **options: Any,
    ) -> io.NodeOutput:
        from ..swinir_core.video_files.flicker import Steadier
        from ..swinir_core.video_files.writing import VideoWriter
        from .running.restoration import Restoration
        from .running.video import plan_frames, restored

        host.check_choice("codec", codec, CODECS)
        host.check_choice("pixel_format", pixel_format, PIXEL_FORMATS)
        encoding = Encoding(codec, crf, pixel_format)
        restoration = Restoration(upscale_model, multiple=encoding.multiple, **options)
        with host.open_video(video) as source:
            path = host.temporary_file(".mp4")
            writer = VideoWriter(path, source, encoding)
            plan, at_once = plan_frames(restoration, source)
            _say(cls, f"{source.count} frames, {at_once} together; for each pass {plan.summary()}")
            steadier = Steadier()
            try:
                with writer:
                    for frame, pixels in restored(restoration, plan, at_once, source):
                        if reduce_flicker:
                            pixels = steadier.add(frame.pixels, pixels)
                        writer.add(pixels, frame)
            except BaseException:
                if writer.kept:
                    _say(cls, f"stopped; the first {writer.written} frames are in {path}")
                raise
        _say(cls, f"{writer.written} frames written", *source.notes, *writer.notes)
        return io.NodeOutput(host.to_video(path))


def _say(node: type[io.ComfyNode], *sentences: str) -> None:
    """Write sentences on the node and into the log."""
    text = "; ".join(sentences)
    logging.info("SwinIR Restore: %s", text)
    host.show_text(node, text)
