"""Metadata: all that an image file carries besides its pixels, and which format holds it.

Tags are those of TIFF 6.0, EXIF 3.0 and GeoTIFF 1.1 (OGC 19-008).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

from ..text import shown
from .directories import (
    ASCII,
    DOUBLE,
    EXIF,
    RATIONAL,
    SHORT,
    UNDEFINED,
    Block,
    Directory,
    Entry,
    numbers,
    read_block,
    text,
    values,
    write_block,
)

INCH, CENTIMETRE, METRE = Fraction(254, 10000), Fraction(1, 100), Fraction(1)

DESCRIPTION = 270
_WIDTH, _HEIGHT, _ORIENTATION = 256, 257, 274
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_UNITS = {1: None, 2: INCH, 3: CENTIMETRE}
_EXIF_WIDTH, _EXIF_HEIGHT, _USER_COMMENT, _GAMMA = 40962, 40963, 37510, 42240
_WHITE_POINT, _PRIMARIES = 318, 319

COMMENT = "Comment"
_TEXT_TAGS = {
    "Title": 269,
    "Description": DESCRIPTION,
    "Author": 315,
    "Copyright": 33432,
    "Software": 305,
    "Source": 272,
}
"""EXIF tags of the same meaning as keywords of PNG (11.3.3.1 of its specification)."""

PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, GEO_KEYS, RPC = 33550, 33922, 34264, 34735, 50844
_RASTER_TYPE, _PIXEL_IS_POINT = 1025, 2
GEO_TAGS = (PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, GEO_KEYS, 34736, 34737, RPC)

_LONGEST_SEGMENT = 65533
_LONGEST_JPEG = {"EXIF": _LONGEST_SEGMENT, "XMP": _LONGEST_SEGMENT - 29}
_LONGEST_KEYWORD = 79

# Numbers in XMP that restoration makes untrue, as attributes and as elements.
_UNTRUE = (
    rb"tiff:(?:Orientation|ImageWidth|ImageLength|XResolution|YResolution|ResolutionUnit)"
    rb"|exif:Pixel[XY]Dimension|xmpNote:HasExtendedXMP"
)
_UNTRUE_IN_XMP = re.compile(
    rb"\s(?:%b)\s*=\s*(?:\"[^\"<]*\"|'[^'<]*')|<(%b)>[^<]*</\1>" % (_UNTRUE, _UNTRUE)
)
_OME_SIZE = re.compile(r'\b(SizeX|SizeY)="(\d{1,9})"')
_OME_PHYSICAL = re.compile(r'\b(PhysicalSizeX|PhysicalSizeY)="(\d+\.?\d*(?:[eE][+-]?\d+)?)"')
_RESOURCE, _IPTC = b"8BIM", 0x0404
# Resolution and thumbnails, of the picture as it was.
_UNTRUE_RESOURCES = (0x03ED, 0x0409, 0x040C)


class Text(NamedTuple):
    """A text with a keyword, as PNG has them."""

    keyword: str
    text: str
    language: str = ""
    translated: str = ""
    """The keyword in that language."""


class Resolution(NamedTuple):
    """Pixels per unit of length."""

    x: Fraction
    y: Fraction
    unit: Fraction | None
    """Length of the unit in metres; None where it is not known."""

    def per(self, unit: Fraction) -> tuple[float, float]:
        """Pixels per ``unit``, to the nearest whole number where the file meant that: PNG rounds
        300 pixels per inch to 11811 per metre."""
        factor = unit / (self.unit or unit)
        x, y = float(self.x * factor), float(self.y * factor)
        return (
            float(round(x)) if abs(x - round(x)) < 0.013 else x,
            float(round(y)) if abs(y - round(y)) < 0.013 else y,
        )


@dataclass(frozen=True)
class Metadata:
    """Contents of an image file besides its pixels that survive restoration."""

    bit_depth: int = 8
    """Bits a sample in the file: 8 or 16."""

    icc_profile: bytes | None = None
    """ICC profile that fits the colours; None where the file had none."""

    exif: bytes | None = None
    """EXIF block beginning with ``Exif\\0\\0``, without orientation, pixel dimensions, resolution
    and preview. Of a TIFF, the tags that both know."""

    xmp: bytes | None = None
    """XMP packet, without orientation, pixel dimensions and resolution."""

    photoshop: bytes | None = None
    """Image resources of Photoshop, IPTC among them."""

    texts: tuple[Text, ...] = ()
    """Texts of PNG, and comments."""

    resolution: Resolution | None = None

    colour: tuple[tuple[bytes, bytes], ...] = ()
    """Chunks of PNG about colours: kind and data."""

    tiff: Directory = field(default_factory=dict)
    """Tags that only TIFF has: GeoTIFF's, GDAL's, and those about pages."""

    seconds: Fraction | None = None
    """Time for which a frame of an animation is shown; None for a still picture."""

    loops: int = 0
    """Number of times an animation is played; 0 is for ever."""

    left_out: tuple[str, ...] = ()
    """Names of what the file has besides and nothing here can hold."""

    white: int | None = None
    """Level of white in a file of 16 bits that does not use them all; None for the highest."""

    def resized(self, old: tuple[int, int], new: tuple[int, int]) -> Metadata:
        """Derive the metadata of the picture resized from ``old`` to ``new`` height and width.

        Resolution grows as the sides do: the picture keeps its size on paper, on the ground and
        under the microscope. Pixel scale and tie points of GeoTIFF follow, and the sizes in an OME
        description.
        """
        if old == new:
            return self
        y, x = (Fraction(*sides) for sides in zip(new, old, strict=True))
        resolution = self.resolution
        if resolution:
            resolution = resolution._replace(x=resolution.x * x, y=resolution.y * y)
        tiff = resized_position(self.tiff, float(x), float(y))
        exif = self.exif
        if exif and b"<OME" in exif:
            block = read_block(exif)
            if description := block.get(0, {}).get(DESCRIPTION):
                block[0][DESCRIPTION] = Entry(
                    ASCII,
                    _resized_ome(description.data, {"X": (old[1], new[1]), "Y": (old[0], new[0])}),
                )
            exif = write_block(block)
        return replace(self, resolution=resolution, tiff=tiff, exif=exif)

    def turned(self, orientation: int) -> Metadata:
        """Derive the metadata of the picture after its EXIF orientation was applied to it."""
        if orientation not in range(2, 9):
            return self
        resolution, tiff, left_out = self.resolution, self.tiff, self.left_out
        if resolution and orientation >= 5:
            resolution = resolution._replace(x=resolution.y, y=resolution.x)
        if any(tag in tiff for tag in GEO_TAGS):
            tiff = {tag: entry for tag, entry in tiff.items() if tag not in GEO_TAGS}
            left_out += ("the geographic position of a turned picture",)
        return replace(self, resolution=resolution, tiff=tiff, left_out=left_out)

    def fitted(self, file_format: str) -> Metadata:
        """Put everything where the format ("PNG", "JPEG", "WebP" or "TIFF") has a place for it.

        Where there is none, it is named in ``left_out``.
        """
        left_out = list(self.left_out)
        block = _block(self.exif)
        texts, colour = self.texts, self.colour
        if file_format != "PNG":
            texts, rest = _texts_into_exif(texts, block, file_format == "JPEG")
            left_out += rest
            left_out += _colour_into_exif(colour, block)
            colour = ()
        if self.photoshop and file_format not in ("JPEG", "TIFF"):
            left_out.append("IPTC")
        if file_format != "TIFF":
            left_out += _names_of_tiff_only(self.tiff)
            if self.resolution and (block or file_format == "WebP"):
                block.setdefault(0, {}).update(resolution_tags(self.resolution))
        exif, xmp = write_block(block) if block else None, self.xmp
        if file_format == "JPEG":
            if exif and len(exif) > _LONGEST_JPEG["EXIF"]:
                exif = None
                left_out.append("EXIF of more than 64 kB")
            if xmp and len(xmp) > _LONGEST_JPEG["XMP"]:
                xmp = None
                left_out.append("XMP of more than 64 kB")
        return replace(
            self, exif=exif, xmp=xmp, texts=texts, colour=colour, left_out=tuple(left_out)
        )


def take_exif(block: Block) -> tuple[bytes | None, Resolution | None]:
    """Separate the resolution from an EXIF block; what restoration makes untrue is dropped."""
    main, details = block.get(0, {}), block.get(EXIF, {})
    resolution = take_resolution(main)
    for tag in (_WIDTH, _HEIGHT, _ORIENTATION):
        main.pop(tag, None)
    for tag in (_EXIF_WIDTH, _EXIF_HEIGHT):
        details.pop(tag, None)
    block = {tag: directory for tag, directory in block.items() if directory}
    return write_block(block) if block else None, resolution


def take_resolution(directory: Directory) -> Resolution | None:
    """Take the resolution out of a directory of TIFF or EXIF."""
    x, y = (values(directory.pop(tag, None)) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    unit = values(directory.pop(_RESOLUTION_UNIT, None)) or (2,)
    if len(x) != 2 or len(y) != 2 or not all((*x, *y)):
        return None
    resolution = Resolution(
        Fraction(int(x[0]), int(x[1])), Fraction(int(y[0]), int(y[1])), _UNITS.get(int(unit[0]))
    )
    return None if resolution == (1, 1, None) else resolution  # Says nothing but square pixels.


def resolution_tags(resolution: Resolution) -> Directory:
    """The tags of a resolution in TIFF and EXIF, which know inches and centimetres."""
    unit = resolution.unit
    unit = unit if unit in (None, CENTIMETRE) else INCH
    x, y = resolution.per(unit) if unit else (float(resolution.x), float(resolution.y))
    return {
        _X_RESOLUTION: _rational(x),
        _Y_RESOLUTION: _rational(y),
        _RESOLUTION_UNIT: numbers(SHORT, {None: 1, INCH: 2, CENTIMETRE: 3}[unit]),
    }


def take_xmp(xmp: bytes | None) -> bytes | None:
    """Drop from an XMP packet what restoration makes untrue."""
    return _UNTRUE_IN_XMP.sub(b"", xmp) if xmp else None


def take_resources(resources: bytes | None) -> bytes | None:
    """Drop from image resources of Photoshop what restoration makes untrue; None where nothing is
    left, or where they are damaged."""
    kept = b"".join(
        whole for number, whole, _ in _resources(resources) if number not in _UNTRUE_RESOURCES
    )
    return kept or None


def iptc_of(resources: bytes) -> bytes | None:
    """The IPTC record in image resources of Photoshop."""
    return next((data for number, _, data in _resources(resources) if number == _IPTC), None)


def resources_of(iptc: bytes) -> bytes:
    """Image resources of Photoshop that hold an IPTC record."""
    header = _RESOURCE + struct.pack(">HHI", _IPTC, 0, len(iptc))
    return header + iptc + bytes(len(iptc) % 2)


def resized_position(tiff: Directory, x: float, y: float) -> Directory:
    """Fit the tags of GeoTIFF to a picture that became ``x`` times as wide and ``y`` as high.

    Where a pixel is an area, (0, 0) is the corner of the first one and stays; where it is a point,
    (0, 0) is its centre, which comes to lie between pixels.
    """
    tiff = dict(tiff)
    keys = values(tiff.get(GEO_KEYS))
    points = any(
        keys[at] == _RASTER_TYPE and keys[at + 3] == _PIXEL_IS_POINT
        for at in range(4, len(keys) - 3, 4)
    )
    centre = (x - 1) / 2, (y - 1) / 2
    shift = centre if points else (0.0, 0.0)
    if len(size := values(tiff.get(PIXEL_SCALE))) > 1:
        tiff[PIXEL_SCALE] = numbers(DOUBLE, size[0] / x, size[1] / y, *size[2:])
    if ties := values(tiff.get(TIE_POINTS)):
        moved = (
            value * (x, y)[at % 6] + shift[at % 6] if at % 6 < 2 else value
            for at, value in enumerate(ties)
        )
        tiff[TIE_POINTS] = numbers(DOUBLE, *moved)
    if len(matrix := values(tiff.get(TRANSFORMATION))) == 16:
        rows = []
        for a, b, c, d in zip(*[iter(matrix)] * 4, strict=True):
            rows += [a / x, b / y, c, d - a * shift[0] / x - b * shift[1] / y]
        tiff[TRANSFORMATION] = numbers(DOUBLE, *rows)
    # Line and sample of a rational model count from the centre of the first pixel.
    if len(model := [*values(tiff.get(RPC))]) > 8:
        model[2:4] = model[2] * y + centre[1], model[3] * x + centre[0]
        model[7:9] = model[7] * y, model[8] * x
        tiff[RPC] = numbers(DOUBLE, *model)
    return tiff


def _resized_ome(description: bytes, sides: Mapping[str, tuple[int, int]]) -> bytes:
    """Fit the sizes in an OME-XML description, by axis from old to new."""

    def physical(found: re.Match[str]) -> str:
        old, new = sides[found[1][-1]]
        return f'{found[1]}="{float(found[2]) * old / new!r}"'

    ome = description.decode("utf-8", "replace")
    ome = _OME_SIZE.sub(lambda found: f'{found[1]}="{sides[found[1][-1]][1]}"', ome)
    return _OME_PHYSICAL.sub(physical, ome).encode()


def _block(exif: bytes | None) -> Block:
    return read_block(exif) if exif else {}


def _texts_into_exif(
    texts: tuple[Text, ...], block: Block, comments: bool
) -> tuple[tuple[Text, ...], list[str]]:
    """Move texts into an EXIF block: those whose meaning has a tag to it, others together into
    the user's comment, or where the format has ``comments``, into these.

    Returns the comments that stay texts, and names of what has no place.
    """
    main = block.get(0, {})
    free, names = [], []
    for each in texts:
        if each.keyword.startswith("Raw profile"):
            names.append(f"the {each.keyword.lower()}")
            continue
        tag = _TEXT_TAGS.get(each.keyword)
        entry = text(each.text)
        if tag and main.setdefault(tag, entry) == entry:
            block[0] = main
        elif each.keyword == COMMENT:
            free.append(each.text)
        else:
            free.append(f"{each.keyword}: {each.text}")
    if comments:
        fitting = [each for each in free if len(each.encode("utf-8", "replace")) < 65534]
        names += ["texts of more than 64 kB"] * (len(fitting) < len(free))
        return tuple(Text(COMMENT, each) for each in fitting), names
    details = block.get(EXIF, {})
    if free and _USER_COMMENT in details:
        return (), [*names, "comments beside that in EXIF"]
    if free:
        comment = b"UNICODE\0" + "\n".join(free).encode("utf-16-le", "replace")
        block[EXIF] = details | {_USER_COMMENT: Entry(UNDEFINED, comment)}
    return (), names


def _colour_into_exif(colour: tuple[tuple[bytes, bytes], ...], block: Block) -> list[str]:
    """Move gamma and chromaticities of PNG into an EXIF block; returns names of the rest."""
    chunks = dict(colour)
    if b"sRGB" in chunks:  # What formats without them mean; these two only approximate it.
        chunks = {kind: chunks[kind] for kind in chunks if kind not in (b"sRGB", b"gAMA", b"cHRM")}
    if len(gamma := chunks.pop(b"gAMA", b"")) == 4 and any(gamma):
        entry = numbers(RATIONAL, 100_000, int.from_bytes(gamma, "big"))
        block.setdefault(EXIF, {}).setdefault(_GAMMA, entry)
    if len(points := chunks.pop(b"cHRM", b"")) == 32:
        terms = [n for value in struct.unpack(">8I", points) for n in (value, 100_000)]
        main = block.setdefault(0, {})
        main.setdefault(_WHITE_POINT, numbers(RATIONAL, *terms[:4]))
        main.setdefault(_PRIMARIES, numbers(RATIONAL, *terms[4:]))
    return [kind.decode() for kind in chunks]


def _names_of_tiff_only(tiff: Directory) -> list[str]:
    names = {"the geographic position": GEO_TAGS, "the notes of GDAL": (42112, 42113)}
    return [name for name, tags in names.items() if any(tag in tiff for tag in tags)]


def _resources(resources: bytes | None) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield number, whole and data of each sound image resource of Photoshop."""
    at = 0
    while resources and resources[at : at + 4] == _RESOURCE and at + 7 <= len(resources):
        number, name = struct.unpack_from(">HB", resources, at + 4)
        start = at + 6 + (name + 2) // 2 * 2 + 4
        if start > len(resources):
            return
        (size,) = struct.unpack_from(">I", resources, start - 4)
        stop = start + size + size % 2
        if start + size > len(resources):
            return
        yield number, resources[at:stop], resources[start : start + size]
        at = stop


def _rational(value: float) -> Entry:
    limit = max(1, math.floor((2**32 - 1) / max(value, 1)))
    fraction = Fraction(value).limit_denominator(min(limit, 10**6))
    return numbers(RATIONAL, min(fraction.numerator, 2**32 - 1), fraction.denominator)


def keyword(name: str) -> str:
    """A keyword as PNG takes it: 1 to 79 characters of Latin-1."""
    return shown(name.encode("latin-1", "replace").decode("latin-1")).strip()[:_LONGEST_KEYWORD]
