"""Video files, written frame by frame into MP4 with the sound of the video they are made from."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import torch.nn.functional as F
from torch import Tensor

from ..errors import ImageError, WriteError
from .colors import from_rgb
from .encoding import CODECS, NARROW, OPTIONS, Encoding
from .reading import Frame, Video


class VideoWriter:
    """A file that is being written, used as a context.

    Whatever ends the context, the file is closed so that it plays, with the frames that were
    written and their sound; only where there are none, or writing failed, it is removed.
    """

    def __init__(self, path: Path, video: Video, encoding: Encoding) -> None:
        """
        Args:
            path: To be replaced; MP4 whatever its name.
            video: From which the frames are made: its times, sound, colours and metadata are kept.
            encoding: How frames are encoded.

        Raises:
            ImageError: The video cannot be encoded so.
        """
        encoding.check(video.colors.hdr)
        self.path, self.video, self.encoding = path, video, encoding
        self.written = 0
        """Frames."""
        self.notes: list[str] = []
        """Sentences about what is not as it was."""
        if video.bits > encoding.bits:
            self.notes.append(
                f"its {video.bits} bits are written as {encoding.bits}; yuv420p10le keeps 10"
            )
        self._output: Any = None
        self._stream: Any = None
        self._durations: dict[int, int] = {}
        self._end = 0.0
        self._failed = False

    def add(self, pixels: Tensor, frame: Frame) -> None:
        """Encode (h, w, 3) floats in 0..1 of any size, but one for all, in the place of ``frame``.

        Raises ``WriteError``, and ``ImageError`` where the encoder does not take such frames or a
        track of sound; after that no more can be added.
        """
        try:
            self._add(pixels, frame)
        except (OSError, av.error.FFmpegError) as error:
            self._failed = True
            raise self._explained(error) from error

    def _add(self, pixels: Tensor, frame: Frame) -> None:
        pixel_format, multiple = self.encoding.pixel_format, self.encoding.multiple
        if multiple > 1:
            height, width, _ = pixels.shape
            beyond = (0, -width % multiple, 0, -height % multiple)
            pixels = F.pad(pixels.movedim(-1, 0)[None], beyond, mode="replicate")[0].movedim(0, -1)
            if any(beyond) and self._output is None:
                self.notes.append(
                    f"its {width}x{height} pixels are not even, so the last row or column is there "
                    f"twice; yuv444p needs none"
                )
        if self._output is None:
            self._begin(*pixels.shape[:2])
        encoded = from_rgb(pixels, self.video.colors, pixel_format)
        encoded.pts, encoded.time_base = frame.pts, self.video.time_base
        self._durations[frame.pts] = frame.duration
        self._mux(self._stream.encode(encoded))
        self._end = float((frame.pts + frame.duration) * self.video.time_base)
        self.written += 1
        for track in self.video.tracks:
            track.write(self._output, self._end)

    def _begin(self, height: int, width: int) -> None:
        video, codec = self.video, CODECS[self.encoding.codec]
        # The tags of other programs are kept, such as the workflow.
        self._output = av.open(
            str(self.path), "w", format="mp4", options={"movflags": "use_metadata_tags"}
        )
        self._output.metadata.update(video.metadata)
        options = {**OPTIONS[codec], "crf": str(self.encoding.crf)}
        if codec == "libx265" and width < NARROW:
            options["x265-params"] += ":cutree=0"
        self._stream = self._output.add_stream(codec, rate=video.rate, options=options)
        context = self._stream.codec_context
        context.width, context.height = width, height
        context.pix_fmt, context.time_base = self.encoding.pixel_format, video.time_base
        context.sample_aspect_ratio = video.aspect
        video.colors.tag(context)
        if codec == "libx265":
            context.codec_tag = "hvc1"  # Without it Apple's players show nothing.
        try:
            context.open()
        except av.error.FFmpegError as error:
            raise ImageError(
                f"the codec {self.encoding.codec} does not take frames of {width}x{height} in "
                f"{context.pix_fmt}; choose another codec, or another size."
            ) from error
        for track in video.tracks:
            self.notes += filter(None, [track.begin(self._output)])

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts, 0)
            self._output.mux(packet)

    @property
    def kept(self) -> bool:
        """Whether there is a file, once the context has ended."""
        return self.written > 0 and self.path.exists()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self._output is None:
            return
        if self._failed or not self.written:
            self._discard()
            return
        try:
            self._finish(math.inf if error is None else self._end)
        except (OSError, av.error.FFmpegError) as failure:
            self._discard()
            raise self._explained(failure) from failure

    def _finish(self, sound_until: float) -> None:
        packets = self._stream.encode(None)
        if self.written < 3:  # Too few to be put into another order, which x265 fails to notice.
            for packet in packets:
                packet.dts = packet.pts
        self._mux(packets)
        for track in self.video.tracks:
            track.write(self._output, sound_until)
            track.finish(self._output)
        self._output.close()

    def _discard(self) -> None:
        with suppress(OSError, av.error.FFmpegError):
            self._output.close()
        with suppress(OSError):
            self.path.unlink()

    def _explained(self, error: BaseException) -> WriteError:
        reason = getattr(error, "strerror", None) or error
        return WriteError(f"{self.path} cannot be written: {reason}.")
