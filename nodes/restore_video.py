"""The node that restores videos."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ..swinir_core.restoration.inputs import Inputs, check_inputs
from ..swinir_core.restoration.planning import RunPlan
from ..swinir_core.restoration.restorer import most_together
from ..swinir_core.restoration.sizing import Sized
from ..swinir_core.video_files.encoding import CODECS, PIXEL_FORMATS, Encoding
from ..swinir_core.video_files.flicker import Steadier
from . import host
from .restore import Restoration, SwinIRRestore

if TYPE_CHECKING:
    from ..swinir_core.video_files.reading import Frame, Video

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
        # Only now, because it needs PyAV.
        from ..swinir_core.video_files.writing import VideoWriter

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


def plan_frames(restoration: Restoration, video: Video) -> tuple[RunPlan | Sized, int]:
    """Load the model and plan once for all frames. Returns the plan of a pass and its frames: as
    many together as make it faster."""
    # No more than can be run together, because the memory for their results is looked at.
    most = most_together(video.height, video.width)

    def frames(count: int) -> Inputs:
        """Frames that take no memory; in colour, or a gray model would not count the channels."""
        color = torch.tensor([0.0, 0.5, 1.0])
        return Inputs(color.expand(count, video.height, video.width, 3), None)

    plan = restoration.plan(frames(most), frames(video.count))
    if isinstance(plan, Sized):
        return plan, plan.together(most)
    whole = len(plan.tiles) == 1
    at_once = max(plan.at_once // plan.runs_of_an_image, 1) if whole else 1
    return replace(plan, selected=plan.selected[:at_once]), at_once


def restored(
    restoration: Restoration, plan: RunPlan | Sized, at_once: int, video: Video
) -> Iterator[tuple[Frame, Tensor]]:
    """Restore the frames of a video, ``at_once`` together; yield each with its result
    (h, w, 3)."""
    frames, done, progress = video.frames(), 0, host.Progress()

    def advance(pixels: int, of: int) -> None:
        progress.advance(done + len(batch) * pixels / of, max(video.count, done + len(batch)))

    while batch := list(islice(frames, at_once)):
        host.interrupted()
        inputs = check_inputs(torch.stack([frame.pixels for frame in batch]))
        if isinstance(plan, RunPlan):  # The last frames may be fewer.
            plan = replace(plan, selected=plan.selected[: len(batch)])
        results = restoration.restore(inputs, plan, progress, advance)
        for frame, result in zip(batch, results, strict=True):
            yield frame, result
            host.interrupted()
        done += len(batch)


def _say(node: type[io.ComfyNode], *sentences: str) -> None:
    """Write sentences on the node and into the log."""
    text = "; ".join(sentences)
    logging.info("SwinIR Restore: %s", text)
    host.show_text(node, text)
