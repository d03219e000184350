"""Model files cut at every boundary or changed at random: loaded correctly, or refused by name."""

from __future__ import annotations

import io
import json
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from swinir_core import Checkpoint, CheckpointError, read_checkpoint
from swinir_core.checkpoints.checkpoint import CONFIG_KEY, write_checkpoint
from tests.support.hostile import CONFIG, SECONDS, WEIGHTS, check_loaded, saved


def boundaries(path: Path) -> set[int]:
    """Places at which a part of the file begins or ends."""
    data = path.read_bytes()
    found = {0, 1, 4, 8, len(data)}
    if path.suffix == ".safetensors":
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        ends = [e["data_offsets"] for name, e in header.items() if name != "__metadata__"]
        return found | {start} | {start + offset for pair in ends for offset in pair}
    for mark in (
        b"PK\x01\x02",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"PK\x06\x06",
        b"PK\x07\x08",
        b".\x80\x02",
    ):
        at = data.find(mark)
        while at >= 0:
            found.add(at + (mark[:1] == b"."))
            at = data.find(mark, at + 1)
    if data.startswith(b"PK"):
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                name, extra = struct.unpack("<HH", data[record.header_offset + 26 :][:4])
                start = record.header_offset + 30 + name + extra
                found |= {start, start + record.file_size}
    else:
        at = len(data)
        for weight in reversed(WEIGHTS.values()):
            found |= {at - 4 * weight.numel(), at - 4 * weight.numel() - 8}
            at -= 4 * weight.numel() + 8
    return found


@pytest.mark.parametrize("kind", ["archive.pth", "stream.pth", "model.safetensors"])
def test_truncated_at_every_boundary(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    if path.suffix == ".safetensors":
        write_checkpoint(path, Checkpoint(CONFIG, WEIGHTS))
    else:
        saved(WEIGHTS, path, legacy=kind.startswith("stream"))
    check_loaded(read_checkpoint(path))
    data = path.read_bytes()
    cuts = {near for at in boundaries(path) for near in (at - 1, at, at + 1)}
    cuts = {cut for cut in cuts if 0 <= cut < len(data)}
    assert len(cuts) > 2 * len(WEIGHTS)
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        with pytest.raises(CheckpointError, match=path.name):
            read_checkpoint(path)


def valid_files() -> dict[str, bytes]:
    stream, archive = io.BytesIO(), io.BytesIO()
    torch.save(WEIGHTS, archive)
    torch.save({"params": WEIGHTS}, stream, _use_new_zipfile_serialization=False)
    header = {CONFIG_KEY: json.dumps(CONFIG.to_dict())}
    return {
        "a.pth": archive.getvalue(),
        "b.pth": stream.getvalue(),
        "c.safetensors": save(WEIGHTS, header),
        "d.safetensors": save(WEIGHTS),
    }


FILES = valid_files()
positions = st.one_of(st.integers(0, 4000), st.integers(0, 2**16))
mutations = st.one_of(
    st.tuples(st.just("set"), positions, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("insert"), positions, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("copy"), positions, positions, st.integers(1, 200)),
    st.tuples(st.just("cut"), positions, st.integers(1, 200)),
    st.tuples(st.just("end"), positions),
    st.tuples(
        st.just("digits"),
        positions,
        st.sampled_from([b"0", b"-1", b"99999999999", b"1e9", b"null"]),
    ),
)


def mutated(data: bytes, mutation: tuple[Any, ...]) -> bytes:
    kind, at, *rest = mutation
    at %= len(data) or 1
    match kind, rest:
        case "set", [new]:
            return data[:at] + new + data[at + len(new) :]
        case "insert", [new]:
            return data[:at] + new + data[at:]
        case "copy", [source, length]:
            return data[:at] + data[source : source + length] + data[at:]
        case "cut", [length]:
            return data[:at] + data[at + length :]
        case "digits", [new]:  # A number of a header, the header's length kept right.
            end = 8 + int.from_bytes(data[:8], "little")
            start = next(
                (i for i in range(at, min(end, len(data))) if data[i : i + 1].isdigit()), 0
            )
            stop = next(
                (i for i in range(start, len(data)) if not data[i : i + 1].isdigit()), start
            )
            if start < 8:
                return data
            length = end - 8 + len(new) - (stop - start)
            return struct.pack("<Q", length) + data[8:start] + new + data[stop:]
        case _:
            return data[:at]


@given(name=st.sampled_from(sorted(FILES)), changes=st.lists(mutations, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_mutated_files(
    name: str, changes: list[tuple[Any, ...]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    data = FILES[name]
    for change in changes:
        data = mutated(data, change)
    path.write_bytes(data)
    began = time.monotonic()
    try:
        check_loaded(read_checkpoint(path))
    except CheckpointError as error:
        if name not in str(error):
            raise
    assert time.monotonic() - began < SECONDS
