"""Conversion between the luma and chroma of a video and RGB.

FFmpeg only changes how chroma is sampled; matrix, range and rounding are computed here, because its
own tables take white for 65280 of 65535 in some formats and not in others.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import av.filter
import numpy as np
import torch
from torch import Tensor

from ..errors import ImageError

_RGB, _UNSPECIFIED = 0, 2
_BT709, _BT601 = 1, 6

_LUMA = {
    **{_BT709: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), _BT601: (0.299, 0.114)},
    **{7: (0.212, 0.087), 9: (0.2627, 0.0593)},
}
"""Weights of red and blue in luma by the number of the matrix in ITU-T H.273, table 4. Primaries
of the same system have the same number in its table 2."""

_HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics of H.273, table 3, that 8 bits are too few for."""

_LIMITED, _FULL = 1, 2


@dataclass(frozen=True)
class Colors:
    """What the numbers of a video mean, as H.273 counts it. The range is always the limited one,
    16 to 235 of 255, which every player knows."""

    matrix: int = _BT709
    primaries: int = _BT709
    transfer: int = _BT709

    @property
    def hdr(self) -> str:
        """Name of the high dynamic range; empty where it is an ordinary video."""
        return _HDR.get(self.transfer, "")

    def tag(self, target: Any) -> None:
        """Write them on an encoder."""
        target.colorspace, target.color_range = self.matrix, _LIMITED
        target.color_primaries, target.color_trc = self.primaries, self.transfer


def colors_of(frame: Any, context: Any) -> Colors:
    """Take the colours of a decoded frame, and of its decoder what the frame does not say.

    What neither says is taken as players do: BT.709 from 1280 columns or 577 rows on, else BT.601.
    Raises ``ImageError`` for a matrix that is not a linear one.
    """
    matrix = int(frame.colorspace)
    if matrix == _UNSPECIFIED:
        matrix = _BT709 if frame.width >= 1280 or frame.height > 576 else _BT601
    if _is_rgb(frame):
        matrix = _BT709
    if matrix not in _LUMA:
        raise ImageError(
            f"the colours of this video (matrix {matrix} of H.273) cannot be converted; convert "
            f"it to BT.709 with another program."
        )
    primaries, transfer = int(context.color_primaries), int(context.color_trc)
    return Colors(
        matrix,
        matrix if primaries == _UNSPECIFIED else primaries,
        _BT709 if transfer == _UNSPECIFIED else transfer,
    )


def to_rgb(frame: Any, colors: Colors) -> Tensor:
    """Convert a decoded frame of any format to (H, W, 3) float32 in 0..1; alpha is left out."""
    bits = min(max(8, *(component.bits for component in frame.format.components)), 16)
    depth = f"{bits}le" if bits > 8 else ""
    most = 2**bits - 1
    if _is_rgb(frame):
        green, blue, red = _planes(_converted(frame, f"gbrp{depth}"), bits)
        return torch.from_numpy(np.stack([red, green, blue], -1) / np.float32(most))
    is_full = int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj")
    y, u, v = _planes(_converted(frame, f"yuv444p{depth}"), bits)
    unit = 1 << (bits - 8)
    black, luma, chroma = (0, most, most) if is_full else (16 * unit, 219 * unit, 224 * unit)
    y = (y - np.float32(black)) / np.float32(luma)
    u, v = ((part - np.float32(128 * unit)) / np.float32(chroma) for part in (u, v))
    of_red, of_blue = _LUMA[colors.matrix]
    red, blue = y + 2 * (1 - of_red) * v, y + 2 * (1 - of_blue) * u
    green = (y - of_red * red - of_blue * blue) / (1 - of_red - of_blue)
    return torch.from_numpy(np.stack([red, green, blue], -1).astype(np.float32).clip(0, 1))


def from_rgb(pixels: Tensor, colors: Colors, pixel_format: str) -> Any:
    """Convert (H, W, 3) floats in 0..1 to a frame of a format ``yuv4..p`` or ``yuv4..p10le``."""
    red, green, blue = pixels.numpy().astype(np.float32).clip(0, 1).transpose(2, 0, 1)
    of_red, of_blue = _LUMA[colors.matrix]
    y = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
    u, v = (blue - y) / (2 * (1 - of_blue)), (red - y) / (2 * (1 - of_red))
    unit = 4 if pixel_format.endswith("10le") else 1
    dtype = np.uint16 if unit > 1 else np.uint8
    height, width = y.shape
    frame = av.VideoFrame(width, height, f"yuv444p{'10le' * (unit > 1)}")
    levels = (16 + 219 * y, 128 + 224 * u, 128 + 224 * v)
    for plane, values in zip(frame.planes, levels, strict=True):
        padded = np.zeros((plane.height, plane.line_size // dtype().itemsize), dtype)
        padded[:, : plane.width] = np.rint(unit * values)
        plane.update(padded.tobytes())
    frame = _converted(frame, pixel_format)
    frame.colorspace, frame.color_range = colors.matrix, _LIMITED
    return frame


def _is_rgb(frame: Any) -> bool:
    return frame.format.is_rgb or frame.format.has_palette or int(frame.colorspace) == _RGB


def _converted(frame: Any, pixel_format: str) -> Any:
    """Change the sampling of chroma, and nothing else."""
    if frame.format.name == pixel_format:
        return frame
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=frame.width,
            height=frame.height,
            format=frame.format.name,
            time_base=Fraction(1, 1),
        ),
        # The same on both sides, whatever it is in truth, or it would be converted.
        graph.add(
            "scale",
            "in_range=full:out_range=full:in_color_matrix=bt709:out_color_matrix=bt709:"
            "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp",
        ),
        graph.add("format", pixel_format),
        graph.add("buffersink"),
    ).configure()
    graph.push(frame)
    return graph.pull()


def _planes(frame: Any, bits: int) -> list[np.ndarray]:
    """Take the three planes of a frame, each (H, W), as floats of its levels."""
    dtype = np.dtype(np.uint16 if bits > 8 else np.uint8)
    return [
        np.frombuffer(plane, dtype)
        .reshape(plane.height, plane.line_size // dtype.itemsize)[:, : plane.width]
        .astype(np.float32)
        for plane in frame.planes
    ]
