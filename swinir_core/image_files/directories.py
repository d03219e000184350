"""Directories of tagged values, of which TIFF files and EXIF blocks consist.

Values are kept as the bytes they are: nothing in them is interpreted. Numbers in brackets are
sections of TIFF 6.0; BigTIFF has the same with wider fields.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Container
from typing import NamedTuple

import numpy as np

MOST_BYTES = 2**26
"""Bytes of metadata that are taken from a file, or from one page of it."""

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, DOUBLE = 1, 2, 3, 4, 5, 7, 12

LONG8 = 16
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
WIDTHS |= {16: 8, 17: 8, 18: 8}
"""Bytes of one value of each type (2); the last three are BigTIFF's."""

EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
"""Tags that lead to further directories, the last from within that of EXIF."""

_RATIONALS = (5, 10)
_LETTERS = {SHORT: "H", LONG: "I", 13: "I", LONG8: "Q", 18: "Q", RATIONAL: "I", DOUBLE: "d"}


class Entry(NamedTuple):
    """One tagged value."""

    kind: int
    """Type of its elements, a key of ``WIDTHS``."""

    data: bytes
    """The elements, little-endian."""

    @property
    def count(self) -> int:
        return len(self.data) // WIDTHS[self.kind]


Data = bytes | mmap.mmap

Directory = dict[int, Entry]
"""Entries by tag."""

Block = dict[int, Directory]
"""The directories of an EXIF block, by the tag that leads to each; 0 is the first."""


def text(value: str) -> Entry:
    """Make an entry of text. TIFF asks for ASCII; UTF-8 is what programs write and read."""
    return Entry(ASCII, value.encode("utf-8", "replace") + b"\0")


def numbers(kind: int, *values: float) -> Entry:
    """Make an entry of SHORT, LONG, LONG8, DOUBLE, or RATIONAL (numerator, denominator, ...)."""
    return Entry(kind, struct.pack(f"<{len(values)}{_LETTERS[kind]}", *values))


def values(entry: Entry | None) -> tuple[float, ...]:
    """The numbers of an entry, numerators and denominators one after another; none where it is no
    entry of numbers."""
    letter = _LETTERS.get(entry.kind) if entry else None
    if not entry or not letter:
        return ()
    return struct.unpack(f"<{len(entry.data) // struct.calcsize(letter)}{letter}", entry.data)


def little_endian(kind: int, data: bytes, order: str) -> bytes:
    """Turn elements of a type from the byte order ``<`` or ``>`` into little-endian ones."""
    width = 4 if kind in _RATIONALS else WIDTHS[kind]
    if order == "<" or width == 1:
        return bytes(data)
    return np.frombuffer(data, f"u{width}").byteswap().tobytes()


def read_block(block: bytes) -> Block:
    """Read an EXIF block, with or without ``Exif\\0\\0`` before it.

    The preview in it is left out, and so are entries that lead out of the block.

    Raises ValueError for what is no EXIF block.
    """
    data = block.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise ValueError("not an EXIF block")
    try:
        (first,) = struct.unpack_from(f"{order}I", data, 4)
        return read_inner(data, read_directory(data, first, order), order)
    except struct.error as error:
        raise ValueError("damaged EXIF block") from error


def write_block(block: Block) -> bytes:
    """Write an EXIF block, little-endian."""
    header = b"II*\0" + struct.pack("<I", 8)
    directories, _ = write_directories(block, 8, big=False)
    return b"Exif\0\0" + header + directories


def write_directories(block: Block, offset: int, big: bool) -> tuple[bytes, int]:
    """Write the first directory of a block and behind it those that it leads to.

    offset: place of the first in its file.
    big: whether the file is a BigTIFF.
    Returns them and the place in them of the offset of a next directory, which is 0 so far.
    """
    main, details = dict(block.get(0, {})), dict(block.get(EXIF, {}))
    others = block.get(INTEROPERABILITY, {})
    kind = LONG8 if big else LONG  # No LONG reaches what lies beyond 4 GB.
    inner = []
    for directory, tag, parent in (
        (others, INTEROPERABILITY, details),
        (details, EXIF, main),
        (block.get(GPS, {}), GPS, main),
    ):
        if directory:
            parent[tag] = numbers(kind, 0)
            inner.append((directory, tag, parent))
    place, rest = offset + len(_write(main, 0, big)), b""
    for directory, tag, parent in inner:
        parent[tag] = numbers(kind, place + len(rest))
        rest += _write(directory, place + len(rest), big)
    return _write(main, offset, big) + rest, _next_at(main, big)


def _next_at(directory: Directory, big: bool) -> int:
    """Find the offset of the next directory in a written one."""
    return 8 + 20 * len(directory) if big else 2 + 12 * len(directory)


def read_directory(
    data: Data, offset: int, order: str, big: bool = False, without: Container[int] = ()
) -> Directory:
    """Read the directory at ``offset`` of a file in the byte order ``<`` or ``>``.

    Entries of the tags ``without`` and those that lead out of the file are left out.

    Raises ValueError where values together are larger than the file or ``MOST_BYTES``.
    """
    entry, word, inline = ("HHQ", "Q", 8) if big else ("HHI", "I", 4)
    (number,) = struct.unpack_from(f"{order}{'Q' if big else 'H'}", data, offset)
    step = struct.calcsize(f"<{entry}") + inline
    first, directory, total = offset + (8 if big else 2), {}, 0
    for at in range(first, first + step * number, step):
        tag, kind, count = struct.unpack_from(order + entry, data, at)
        size = count * WIDTHS.get(kind, 0)
        start = at + step - inline
        if size > inline:
            (start,) = struct.unpack_from(order + word, data, start)
        if tag in without or not size or start + size > len(data):
            continue
        total += size
        if total > min(len(data), MOST_BYTES):  # Values that overlap could be ever so many.
            raise ValueError("tags larger than their file")
        directory[tag] = Entry(kind, little_endian(kind, data[start : start + size], order))
    return directory


def read_inner(data: Data, main: Directory, order: str, big: bool = False) -> Block:
    """Read the directories of EXIF that ``main`` leads to; what leads there is taken out of it."""
    block = {0: main}
    for parent, tag in ((0, EXIF), (0, GPS), (EXIF, INTEROPERABILITY)):
        if place := values(block.get(parent, {}).pop(tag, None)):
            block[tag] = read_directory(data, int(place[0]), order, big)
    return {tag: directory for tag, directory in block.items() if directory}


def _write(directory: Directory, offset: int, big: bool) -> bytes:
    """Write one directory and the values behind its table; its length does not depend on
    ``offset``."""
    entry, word, inline = ("<HHQ", "<Q", 8) if big else ("<HHI", "<I", 4)
    table = struct.pack("<Q" if big else "<H", len(directory))
    place, rest = offset + _next_at(directory, big) + inline, b""
    for tag, (kind, data) in sorted(directory.items()):
        count = len(data) // WIDTHS[kind]
        table += struct.pack(entry, tag, kind, count)
        if len(data) <= inline:
            table += data.ljust(inline, b"\0")
        else:
            table += struct.pack(word, place + len(rest))
            rest += data + bytes(len(data) % 2)  # Values begin at even places (2).
    return table + bytes(inline) + rest
