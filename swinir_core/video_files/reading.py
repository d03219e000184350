"""Videos that are read frame by frame."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import av
import av.error
import torch
from torch import Tensor

from ..errors import ImageError
from .colors import Colors, colors_of, to_rgb
from .sound import FileTrack, Track, WaveformTrack, Window

_UNKNOWN_RATE = Fraction(25)
_ENOUGH = 0.9
"""Part of the expected frames, often a guess, below which a file is said to be cut off."""


@dataclass(frozen=True)
class Frame:
    """One picture of a video, upright."""

    pixels: Tensor
    """(H, W, 3) float32 in 0..1"""
    pts: int
    """When it is shown, in units of the video's ``time_base``; zero is where the video begins."""
    duration: int
    """For how long, in the same units."""


class Video(Protocol):
    """A video that a ``VideoWriter`` makes another of."""

    width: int
    height: int
    """Pixels of the upright frames."""
    rate: Fraction
    """Frames per second, on average."""
    time_base: Fraction
    """Seconds per unit of time."""
    aspect: Fraction
    """Width of a pixel over its height."""
    colors: Colors
    bits: int
    """Of each of the three numbers of a pixel."""
    count: int
    """Frames there are, as far as it is known before they are read; at least 1."""
    metadata: dict[str, str]
    notes: list[str]
    """Sentences about what of the video is left out, complete when all frames are read."""

    @property
    def tracks(self) -> Sequence[Track]:
        """Its sound."""
        ...

    def frames(self) -> Iterator[Frame]:
        """Read all frames, in the order in which they are shown. Once only."""
        ...


class FileVideo:
    """A video file, with its sound. Close it, or use it as a context."""

    def __init__(self, source: str | Path | BinaryIO, start: float = 0, duration: float = 0):
        """
        Args:
            source: A file, or its bytes from their beginning.
            start: Seconds of the file's clock before which everything is left out.
            duration: Seconds that are wanted from there on; 0 for all.

        Raises:
            ImageError: There is no video in it, or none that can be read.
        """
        self.name = str(source) if isinstance(source, str | Path) else "the video"
        self.notes: list[str] = []
        self._damaged = 0
        try:
            self._container: Any = av.open(str(source) if isinstance(source, Path) else source)
        except (OSError, av.error.FFmpegError) as error:
            raise ImageError(f"{self.name} cannot be read as a video: {_reason(error)}.") from error
        try:
            self._begin(start, duration)
        except BaseException:
            self.close()
            raise

    def _begin(self, start: float, duration: float) -> None:
        streams = self._container.streams
        if not streams.video:
            raise ImageError(f"{self.name} has no video stream, so there is nothing to restore.")
        self._stream = stream = streams.video[0]
        if stream.codec_context is None:
            raise ImageError(f"{self.name} has a video of a kind that PyAV cannot decode.")
        self.time_base = Fraction(stream.time_base or Fraction(1, 1000))
        self.rate = Fraction(stream.average_rate or stream.guessed_rate or _UNKNOWN_RATE)
        begun = (self._container.start_time or 0) / av.time_base
        self._window = Window(
            start or -math.inf,
            start + duration if duration else math.inf,
            start or max(begun, 0),
        )
        self.count = self._expected(start, duration)
        self.tracks: list[FileTrack] = []
        # Seeking finds no frame to begin with in some files, so these are read from the beginning.
        for moment in (start, 0) if start else (0,):
            if start:
                with suppress(av.error.FFmpegError):
                    self._container.seek(int(moment / self.time_base), stream=stream)
            self.tracks = [
                FileTrack(sound, self._window)
                for sound in streams.audio
                if sound.codec_context is not None
            ]
            self._frames = self._decoded()
            first = next(self._frames, None)
            if first is not None:
                break
        if first is None:
            raise ImageError(
                f"no frame of {self.name} can be read"
                f"{' in the part that is wanted' * bool(start or duration)}."
            )
        others = len(streams) - 1 - len(self.tracks)
        if others:
            self.notes.append(
                f"{others} of its streams (subtitles, further pictures, data) are left out"
            )
        decoded, _, _ = first
        self._frames = chain([first], self._frames)
        self._size = (decoded.width, decoded.height)
        self._turns = round(decoded.rotation / 90) % 4
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        self.aspect = 1 / aspect if self._turns % 2 else aspect
        self.width, self.height = reversed(self._size) if self._turns % 2 else self._size
        self.colors = colors_of(decoded, stream.codec_context)
        components = decoded.format.components
        self.bits = max(component.bits for component in components)
        self.metadata = dict(self._container.metadata)
        if any(component.is_alpha for component in components):
            self.notes.append("its transparency is left out, which these codecs do not hold")
        if decoded.interlaced_frame:
            self.notes.append("it is interlaced; deinterlace it first if edges come out as combs")

    def frames(self) -> Iterator[Frame]:
        read = 0
        for frame, pts, duration in self._frames:
            if (frame.width, frame.height) != self._size:
                raise ImageError(
                    f"the frames of {self.name} change their size from {self._size[0]}x"
                    f"{self._size[1]} to {frame.width}x{frame.height}; cut it there first."
                )
            pixels = to_rgb(frame, self.colors)
            if self._turns:
                pixels = torch.rot90(pixels, self._turns).contiguous()
            yield Frame(pixels, pts, duration)
            read += 1
        if read < _ENOUGH * self.count:
            self.notes.append(f"it ends after {read} of about {self.count} frames")
        if self._damaged:
            self.notes.append(f"{self._damaged} damaged pieces of {self.name} are left out")

    def _decoded(self) -> Iterator[tuple[Any, int, int]]:
        """Decode the frames of the window, with their time and duration; hand packets of sound to
        their tracks on the way."""
        base, window = self.time_base, self._window
        step = max(round(1 / (self.rate * base)), 1)
        shift = round(window.origin / base)
        # As the host trims: it rounds down.
        start = -math.inf if math.isinf(window.start) else int(window.start / base)
        stop = math.inf if math.isinf(window.stop) else int(window.stop / base)
        tracks = {track.source.index: track for track in self.tracks}
        last, ended = None, False
        for packet in self._packets([self._stream, *(track.source for track in self.tracks)]):
            if ended and all(track.done for track in self.tracks):
                break
            if packet.stream.index in tracks:
                tracks[packet.stream.index].take(packet)
                continue
            if ended:
                continue
            for frame in self._frames_of(packet):
                at = frame.pts
                if at is not None and at < start:
                    continue
                if at is not None and at >= stop:
                    ended = True
                    break
                pts = None if at is None else at - shift
                if pts is None or (last is not None and pts <= last):
                    pts = 0 if last is None else last + step
                last = pts
                duration = getattr(frame, "duration", 0) or step  # PyAV tells it from version 15.
                yield frame, pts, duration

    def _packets(self, streams: list[Any]) -> Iterator[Any]:
        try:
            yield from self._container.demux(streams)
        except av.error.FFmpegError as error:
            raise ImageError(f"{self.name} cannot be read on: {_reason(error)}.") from error

    def _frames_of(self, packet: Any) -> list[Any]:
        try:
            return packet.decode()
        except av.error.FFmpegError:
            self._damaged += 1
            return []

    def _expected(self, start: float, duration: float) -> int:
        stream = self._stream
        if stream.frames and not start and not duration:
            return stream.frames
        if stream.duration is not None:
            seconds = float(stream.duration * self.time_base)
        else:
            seconds = (self._container.duration or 0) / av.time_base
        seconds = max(seconds - start, 0)
        return max(round((min(seconds, duration) if duration else seconds) * self.rate), 1)

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> FileVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FramesVideo:
    """Frames and sound in memory."""

    def __init__(
        self,
        images: Tensor,
        rate: Fraction,
        waveform: Tensor | None = None,
        samples_per_second: int = 0,
        bits: int = 8,
    ) -> None:
        """
        Args:
            images: (B, H, W, C) floats in 0..1; C of 1, 3 or 4, of which alpha is left out.
            rate: Frames per second.
            waveform: (channels, samples) floats in -1..1.
            samples_per_second: Of the waveform.
            bits: As they are to be encoded.

        Raises:
            ImageError: There are no images.
        """
        if images.ndim != 4 or 0 in images.shape or images.shape[-1] not in (1, 3, 4):
            raise ImageError(f"the video has no frames: {tuple(images.shape)}.")
        self._images = images
        self.count, self.height, self.width, channels = images.shape
        self.rate = Fraction(rate).limit_denominator(1001)
        self.time_base = 1 / self.rate
        self.aspect, self.colors, self.bits = Fraction(1), Colors(), bits
        self.metadata: dict[str, str] = {}
        self.notes = ["its transparency is left out, which these codecs do not hold"] * (
            channels == 4
        )
        self.tracks: list[Track] = []
        if waveform is not None and waveform.numel():
            samples = math.ceil(self.count / self.rate * samples_per_second)
            sound = waveform[:, :samples].float().cpu().numpy()
            self.tracks.append(WaveformTrack(sound, samples_per_second))

    def frames(self) -> Iterator[Frame]:
        for number, image in enumerate(self._images):
            yield Frame(image[..., :3].expand(-1, -1, 3).float().cpu(), number, 1)

    def __enter__(self) -> FramesVideo:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error)
