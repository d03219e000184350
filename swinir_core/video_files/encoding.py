"""How frames are encoded; imports nothing that a list of choices does not need."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ImageError

CODECS = {"h264": "libx264", "h265": "libx265", "av1": "libsvtav1"}
"""Encoders of FFmpeg by the names that people know."""

PIXEL_FORMATS = ("yuv420p", "yuv420p10le", "yuv444p", "yuv444p10le")

OPTIONS = {
    # Frames that an encoder looks ahead at are held in memory, and encoded when a run is stopped.
    "libx264": {"rc-lookahead": "12"},
    "libx265": {"x265-params": "rc-lookahead=12:log-level=error"},
    "libsvtav1": {"preset": "8"},
}

NARROW = 64
"""Width of frames in pixels below which x265 must not weigh blocks by the later frames that refer
to them (cutree): from 34 to 50 it then writes beyond its memory, which ends the process."""


@dataclass(frozen=True)
class Encoding:
    """How frames are encoded. The defaults play everywhere."""

    codec: str = "h264"
    """One of ``CODECS``."""

    crf: int = 18
    """Constant rate factor, 0 to 51: lower is better and larger."""

    pixel_format: str = "yuv420p"
    """One of ``PIXEL_FORMATS``."""

    @property
    def bits(self) -> int:
        """Bits of each of the three numbers of a pixel."""
        return 10 if self.pixel_format.endswith("10le") else 8

    @property
    def multiple(self) -> int:
        """Pixels of which both sides of a frame must be multiples."""
        return 2 if "420" in self.pixel_format else 1  # One number of chroma for 2x2 pixels.

    def check(self, hdr: str = "") -> None:
        """Raise ``ImageError`` where no video can be encoded so, or none of a high dynamic range
        that is named ``hdr``."""
        if self.codec == "av1" and "444" in self.pixel_format:
            raise ImageError(
                f"the codec av1 does not take {self.pixel_format}; choose yuv420p or yuv420p10le, "
                f"or the codec h265."
            )
        if hdr and self.bits < 10:
            raise ImageError(
                f"this video has a high dynamic range ({hdr}), for which {self.pixel_format} has "
                f"too few bits; choose yuv420p10le, with the codec h265."
            )
