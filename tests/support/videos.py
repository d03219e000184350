"""Small videos of any kind, written by PyAV, and what is in a video file."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from swinir_core.video_files.reading import FileVideo

RATE = 25
SOUND_RATE = 48000


def moving_picture(number: int, width: int, height: int) -> np.ndarray:
    """One frame of a smooth pattern that moves: (height, width, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    waves = (np.sin((x + 2 * number) / 9), np.cos(y / 8), np.sin((x - y) / 13 + number / 5))
    return np.stack([128 + 90 * wave for wave in waves], -1).astype(np.uint8)


def planes_frame(planes: Sequence[np.ndarray], pixel_format: str) -> av.VideoFrame:
    """A frame with these numbers: one array (h, w) for each plane."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        row = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
        row[:, : plane.width] = values
        plane.update(row.tobytes())
    return frame


def write_video(
    path: Path,
    frames: int | Sequence[av.VideoFrame] = 12,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    sound: str = "",
    times: Sequence[int] | None = None,
    rotation: float = 0,
    **settings: Any,
) -> Path:
    """Write a video of ``frames`` at 25 a second, or at ``times`` in milliseconds.

    Args:
        path: Its name tells the container.
        frames: Frames, or how many of ``moving_picture``.
        size: Width and height.
        codec, pixel_format: As FFmpeg names them.
        sound: Codec of a tone; none where empty.
        times: When the frames are shown.
        rotation: Degrees of the display matrix.
        **settings: Attributes of the encoder, such as ``colorspace``.
    """
    if isinstance(frames, int):
        frames = [
            av.VideoFrame.from_ndarray(moving_picture(number, *size), format="rgb24")
            for number in range(frames)
        ]
    base = Fraction(1, 1000) if times else Fraction(1, RATE)
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=RATE)
        if codec == "libx264":
            stream.options = {"crf": "4", "preset": "ultrafast"}
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = *size, pixel_format
        context.time_base = base
        for name, value in settings.items():
            setattr(context, name, value)
        if rotation:
            stream.set_display_rotation(rotation)
        track: Any = output.add_stream(sound, rate=SOUND_RATE) if sound else None
        if track:
            track.codec_context.layout = "stereo"
        for number, frame in enumerate(frames):
            frame = frame.reformat(format=pixel_format)
            frame.colorspace = settings.get("colorspace", 2)
            frame.color_range = settings.get("color_range", 0)
            frame.pts, frame.time_base = times[number] if times else number, base
            output.mux(stream.encode(frame))
            if track:
                output.mux(track.encode(_tone(number)))
        output.mux(stream.encode(None))
        if track:
            output.mux(track.encode(None))
    return path


def _tone(number: int) -> av.AudioFrame:
    samples = SOUND_RATE // RATE
    time = np.arange(number * samples, (number + 1) * samples) / SOUND_RATE
    wave = np.sin(2 * np.pi * 440 * time).astype(np.float32) / 2
    frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), "fltp", "stereo")
    frame.sample_rate, frame.pts = SOUND_RATE, number * samples
    frame.time_base = Fraction(1, SOUND_RATE)
    return frame


def pictures_of(path: Path) -> np.ndarray:
    """All frames as we read them: (B, H, W, 3) float32 in levels of 0 to 255."""
    with FileVideo(path) as video:
        return np.stack([frame.pixels.numpy() for frame in video.frames()]) * 255


def times_of(path: Path) -> list[float]:
    """When each frame is shown, in seconds, to a thousandth."""
    with av.open(str(path)) as file:
        return [round(frame.time or 0, 3) for frame in file.decode(video=0)]


def packets_of(path: Path, kind: str) -> list[bytes]:
    """Contents of the packets of all streams of a kind, ``video`` or ``audio``."""
    with av.open(str(path)) as file:
        streams = [stream for stream in file.streams if stream.type == kind]
        return [bytes(packet) for packet in file.demux(streams) if packet.size]


def length_of(path: Path, kind: str) -> float:
    """Seconds of the only stream of a kind, ``video`` or ``audio``."""
    with av.open(str(path)) as file:
        (stream,) = (stream for stream in file.streams if stream.type == kind)
        return float((stream.duration or 0) * (stream.time_base or 0))
