"""Tracks of sound on their way from one file to another, in step with the picture."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import av
import av.error
import numpy as np

from ..errors import ImageError

_SAMPLES_AT_ONCE = 2**12

_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""Layouts by the number of channels where nothing else says it."""


_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)


@dataclass(frozen=True)
class Window:
    """The part of a file that is wanted, in seconds of its clock."""

    start: float = -math.inf
    stop: float = math.inf
    origin: float = 0
    """Time that is zero in what is made of it."""


class Track(Protocol):
    """Sound that a ``VideoWriter`` writes beside the pictures."""

    def begin(self, output: Any) -> str:
        """Add a stream to ``output``, before anything is written to it.

        Returns a sentence about what is not as it was, or nothing.
        """
        ...

    def write(self, output: Any, until: float) -> None:
        """Write what sounds before ``until`` seconds and was not written yet."""
        ...

    def finish(self, output: Any) -> None:
        """Write what an encoder still holds."""
        ...


@dataclass
class FileTrack:
    """Packets of a file: copied where the new file can hold them, else decoded and encoded as
    AAC."""

    source: Any
    """A stream of an open container."""
    window: Window
    done: bool = False
    """True when the window has ended."""
    _waiting: deque[Any] = field(default_factory=deque)
    _stream: Any = None
    _copied: bool = True

    def take(self, packet: Any) -> None:
        """Keep a packet of the stream, which the demuxer has just read, if it is wanted."""
        if packet.dts is None or packet.pts is None:
            return
        time = float(packet.pts * packet.time_base)
        self.done = time >= self.window.stop
        if self.window.start <= time and not self.done:
            self._waiting.append(packet)

    def begin(self, output: Any) -> str:
        context = self.source.codec_context
        codec = context.codec.name
        # FFmpeg puts plain samples into MP4 too, but hardly any player takes them out.
        self._copied = codec in output.supported_codecs and not codec.startswith("pcm_")
        if self._copied:
            self._stream = output.add_stream_from_template(self.source, opaque=True)
            return ""
        layout = context.layout.name
        if layout not in _LAYOUTS.values():
            layout = _LAYOUTS.get(context.layout.nb_channels, "stereo")
        self._stream = _add_aac(output, context.sample_rate, layout)
        return f"its sound is encoded anew as AAC, because players do not take {codec} from MP4"

    def write(self, output: Any, until: float) -> None:
        while self._waiting:
            packet = self._waiting[0]
            base = packet.time_base
            if float(packet.pts * base) - self.window.origin >= until:
                break
            self._waiting.popleft()
            shift = round(self.window.origin / base)
            if self._copied:
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = self._stream
                output.mux(packet)
                continue
            for frame in _decoded(packet):
                frame.pts = None if frame.pts is None else frame.pts - shift
                output.mux(self._stream.encode(frame))

    def finish(self, output: Any) -> None:
        if not self._copied:
            output.mux(self._stream.encode(None))


@dataclass
class WaveformTrack:
    """Sound in memory, encoded as AAC."""

    waveform: np.ndarray
    """(channels, samples) float32"""
    rate: int
    """Samples per second."""
    _written: int = 0
    _stream: Any = None

    def begin(self, output: Any) -> str:
        channels = len(self.waveform)
        if channels not in _LAYOUTS:
            raise ImageError(f"the sound has {channels} channels, which AAC does not hold.")
        self._stream = _add_aac(output, self.rate, _LAYOUTS[channels])
        return ""

    def write(self, output: Any, until: float) -> None:
        stop = min(self.waveform.shape[1], math.ceil(min(until, 2**31) * self.rate))
        while self._written < stop:
            last = min(self._written + _SAMPLES_AT_ONCE, stop)
            samples = np.ascontiguousarray(self.waveform[:, self._written : last], np.float32)
            frame = av.AudioFrame.from_ndarray(samples, "fltp", _LAYOUTS[len(samples)])
            frame.sample_rate, frame.pts = self.rate, self._written
            frame.time_base = Fraction(1, self.rate)
            output.mux(self._stream.encode(frame))
            self._written = last

    def finish(self, output: Any) -> None:
        output.mux(self._stream.encode(None))


def _decoded(packet: Any) -> list[Any]:
    try:
        return packet.decode()
    except av.error.InvalidDataError:  # A moment of silence.
        return []


def _add_aac(output: Any, rate: int, layout: str) -> Any:
    stream = output.add_stream("aac", rate=rate if rate in _AAC_RATES else 48000)
    stream.codec_context.layout = layout
    return stream
