"""Model files from strangers: ``read_checkpoint`` loads them correctly or raises
``CheckpointError`` naming the file, soon, and without taking memory for what they claim."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file
from torch import Tensor

from swinir_core import Checkpoint, CheckpointError, read_checkpoint
from swinir_core.checkpoint import CONFIG_KEY, write_checkpoint
from swinir_core.recognise import recognise
from tests.hostile import (
    CONFIG,
    LAYER,
    SECONDS,
    WEIGHTS,
    bounded,
    check_loaded,
    refused,
    safetensors,
    saved,
)

# Safetensors


def one(**values: Any) -> bytes:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | values
    return json.dumps({"norm.weight": entry}).encode()


def entries(names: Iterator[str]) -> bytes:
    entry = '":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return ("{" + ",".join(f'"{name}{entry}' for name in names) + "}").encode()


HEADERS: dict[str, bytes] = {
    "gigantic shape": one(shape=[2**62]),
    "gigantic product": one(shape=[2**62, 2**62]),
    "gigantic beside zero": one(shape=[0, 2**62, 2**62], data_offsets=[0, 0]),
    "shape beyond 64 bits": one(shape=[10**30]),
    "negative shape": one(shape=[-1]),
    "offsets behind the file": one(shape=[2**20], data_offsets=[0, 2**22]),
    "offsets backwards": one(data_offsets=[4, 0]),
    "offsets beyond 64 bits": one(data_offsets=[0, 2**65]),
    "a hole": one(data_offsets=[4, 8]),
    "overlapping": json.dumps(
        {n: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in "ab"}
    ).encode(),
    "no such type": one(dtype="F31"),
    "packed type": one(dtype="F4", shape=[8]),
    "one name twice": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "one field twice": one().replace(b'"dtype"', b'"dtype":"F32","dtype"'),
    "deep lists": b'{"a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
    "deep objects": b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "a list": b"[]",
    "a number of a million digits": b'{"a":' + b"9" * 1_000_000 + b"}",
    "no UTF-8": b'{"\xff\xfe":1}',
    "nothing": b"",
    "no weights": b"{}",
    "numbers as metadata": b'{"__metadata__":{"a":1}}',
    "many names": entries(f"a{i}" for i in range(100_000)),
    "many blocks": entries(f"layers.0.residual_group.blocks.{i}.x" for i in range(10_000)),
    "many RSTBs": entries(f"layers.{i}.residual_group.blocks.0.x" for i in range(10_000)),
    "longer than any": b" " * 9_000_000,
}


REASONS = {
    "many names": "holds 100000 tensors, and a SwinIR 21568 at most",
    "longer than any": "a header of 9000000 bytes",
    "one name twice": "gives one name twice",
    "one field twice": "gives one name twice",
    "many RSTBs": "'conv_first.weight' is missing",
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_that_lie(name: str, tmp_path: Path) -> None:
    path = safetensors(
        tmp_path / "liar.safetensors", HEADERS[name], b"" if "many" in name else b"\0" * 4
    )
    refused(path, REASONS.get(name, "."))


@pytest.mark.parametrize("length", [0, 7, 10**6, 2**31, 2**40, 2**63, 2**64 - 1])
def test_header_lengths_that_lie(length: int, tmp_path: Path) -> None:
    path = tmp_path / "liar.safetensors"
    path.write_bytes(struct.pack("<Q", length) + save(WEIGHTS)[8:])
    refused(path)


# Configurations

LIES: dict[str, tuple[dict[str, Any], str]] = {
    "a billion layers": ({"depths": [10**9], "num_heads": [2]}, "1 to 65536, got 1000000000"),
    "a thousand layers, with none": ({"depths": [512, 512]}, "too few for 1024 Swin layers"),
    "10,000 blocks": ({"depths": [5000, 5000]}, "10000 Swin layers .* at most 1024"),
    "10,000 RSTBs": ({"depths": [1] * 10**4, "num_heads": [1] * 10**4}, "at most 1024"),
    "window": ({"window_size": 10**9, "img_size": 10**9}, "window_size .* 1 to 64, got 1000000000"),
    "scale": ({"scale": 2**40}, "scale .* 1 to 64, got 1099511627776"),
    "unshuffle": ({"start_unshuffle": 2**40}, "start_unshuffle .* 1 to 64"),
    "patch": ({"img_size": 10**20}, "img_size .* 1 to 65536"),
    "features": ({"num_feat": 2**40}, "num_feat .* 1 to 65536"),
    "dimension": ({"embed_dim": 2**40}, "embed_dim .* 1 to 65536"),
    "hidden channels": ({"mlp_ratio": 9e5}, "10800000 hidden channels .* at most 65536"),
    "mean": ({"mean": [10**400, 0, 0]}, "mean must be"),
    "text": ({"task": "x" * 10**6}, "task 'xxx"),
    "name": ({"\x1b[31m\n" * 1000: 1}, "unknown hyper-parameters"),
    "another network": ({"embed_dim": 24}, "has shape"),
    "deeper than it is": ({"depths": [2, 2]}, "weights are missing"),
    "less deep than it is": ({"depths": [1, 1]}, "do not belong to it"),
    "types": ({"upsampler": [], "resi_connection": {}, "task": [1]}, "must be one of"),
}


@pytest.mark.parametrize("name", LIES)
def test_metadata_that_lies(name: str, tmp_path: Path) -> None:
    values, words = LIES[name]
    path = tmp_path / "liar.safetensors"
    save_file(WEIGHTS, path, {CONFIG_KEY: json.dumps(CONFIG.to_dict() | values)})
    refused(path, words)


def test_metadata_that_is_deep(tmp_path: Path) -> None:
    path = tmp_path / "deep.safetensors"
    save_file(WEIGHTS, path, {CONFIG_KEY: "[" * 100_000})
    refused(path, "no valid configuration")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_blocks_by_the_thousand(suffix: str, tmp_path: Path) -> None:
    block = {k.removeprefix(LAYER): w for k, w in WEIGHTS.items() if k.startswith(LAYER)}
    path = tmp_path / f"tower{suffix}"
    name = "layers.0.residual_group.blocks.{}.{}"
    tower = {name.format(i, k): w for i in range(1, 1100) for k, w in block.items()}
    tower |= WEIGHTS
    if suffix == ".pth":
        saved(tower, path)
    else:
        save_file({key: weight.clone() for key, weight in tower.items()}, path)
    refused(path, "1101 Swin layers are too many; at most 1024")


# Weights


@pytest.mark.parametrize("key", WEIGHTS)
def test_every_weight_is_missed_and_measured(key: str, tmp_path: Path) -> None:
    path = tmp_path / "changed.pth"
    refused(saved({k: w for k, w in WEIGHTS.items() if k != key}, path))
    weight = WEIGHTS[key]
    changes = [torch.cat([weight, weight]), weight[None], weight[:0], weight.sum(), weight.long()]
    if weight.ndim > 1 and weight.shape[0] != weight.shape[1]:
        changes.append(weight.transpose(0, 1).contiguous())
    for value in (float("nan"), float("inf"), -float("inf")):
        changes.append(weight.index_fill(0, torch.tensor([weight.shape[0] - 1]), value))
    for change in changes:
        refused(saved(WEIGHTS | {key: change.clone()}, path))


def test_names_are_read_in_one_pass() -> None:
    names = [f"layers.{i}.residual_group.blocks.0.norm1.weight" for i in range(9000)]
    with bounded(2.0), pytest.raises(ValueError, match=r"'layers\.2\.residual_group"):
        recognise(WEIGHTS | dict.fromkeys(names, WEIGHTS["norm.bias"]))


STRANGE: dict[str, Callable[[Tensor], Any]] = {
    "complex": lambda w: w.to(torch.complex64),
    "bool": lambda w: w > 0,
    "uint8": lambda w: w.to(torch.uint8),
    "float8": lambda w: w.to(torch.float8_e4m3fn),
    "quantised": lambda w: torch.quantize_per_tensor(w, 0.1, 0, torch.qint8),
    "sparse": lambda w: w.to_sparse(),
    "sparse rows": lambda w: w[None].to_sparse_csr(),
    "nested": lambda w: torch.nested.nested_tensor([w, w]),
    "meta": lambda w: w.to("meta"),
    "text": lambda w: "numbers",
    "list": lambda w: w.tolist(),
    "dict in itself": lambda w: ring(),
}


def ring() -> dict[str, Any]:
    contents: dict[str, Any] = {}
    contents["params"] = contents
    return contents


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("key", ["norm.bias", f"{LAYER}norm1.bias", "mean"])
def test_strange_tensors(kind: str, key: str, tmp_path: Path) -> None:
    strange = STRANGE[kind](WEIGHTS["norm.bias"])
    path = tmp_path / "strange.pth"
    for legacy in (False, True):
        try:
            saved(WEIGHTS | {key: strange}, path, legacy)
        except Exception:  # torch.save itself cannot write some of them.
            continue
        if key == "mean" and kind in ("text", "list", "dict in itself"):
            check_loaded(read_checkpoint(path))  # No tensor, so no part of the state dict.
        else:
            refused(path)


# Truncation


def boundaries(path: Path) -> set[int]:
    """Where a part of the file begins or ends."""
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


# Paths

NAMES = [
    "模型",
    "モデル",
    "모델",
    "модель",
    "μοντέλο",
    "דגם",
    "نموذج",
    "मॉडल",
    "แบบ",
    "ሞዴል",
    "modèle",
]
NAMES += [
    "🖼️✨",
    "👩‍👩‍👧‍👦",
    "a b",
    "a.b.c",
    "%s{0}$HOME",
    "e\u0301",
    "\u202egnp",
    "'\"`;&|",
    "-rf",
    "x" * 200,
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_names_in_every_script(name: str, suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / name[:20]
    folder.mkdir()
    path = folder / f"{name}{suffix}"
    if suffix == ".pth":
        path.write_bytes(saved(WEIGHTS, tmp_path / "plain.pth").read_bytes())
    else:
        write_checkpoint(path, Checkpoint(CONFIG, WEIGHTS))
    check_loaded(read_checkpoint(path))
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert path.name in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_file(suffix: str, tmp_path: Path) -> None:
    model = saved(WEIGHTS, tmp_path / "real.pth")
    if suffix == ".safetensors":
        model = tmp_path / "real.safetensors"
        write_checkpoint(model, Checkpoint(CONFIG, WEIGHTS))
    link = tmp_path / f"link{suffix}"
    try:
        link.symlink_to(model)
    except OSError:
        pytest.skip("no symbolic links here")
    check_loaded(read_checkpoint(link))
    dangling, one, other = (tmp_path / f"{n}{suffix}" for n in ("dangling", "one", "other"))
    dangling.symlink_to(tmp_path / "nowhere")
    one.symlink_to(other)
    other.symlink_to(one)
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    linked_folder = tmp_path / f"linked{suffix}"
    linked_folder.symlink_to(folder)
    for path in (dangling, one, other, folder, linked_folder, model / f"below{suffix}"):
        refused(path)
    for path in (tmp_path / f"null\0{suffix}", tmp_path / ("x" * 300 + suffix)):
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
    if hasattr(os, "mkfifo"):
        pipe, device = tmp_path / f"pipe{suffix}", tmp_path / f"device{suffix}"
        os.mkfifo(pipe)
        device.symlink_to("/dev/zero")
        refused(pipe, "not a file of data")
        refused(device, "not a file of data")


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="sparse files and mappings as Linux shows them")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_large_file_of_another_network_is_not_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"diffusion{suffix}"
    count = 2**30
    name = "model.diffusion_model.input_blocks.0.0.weight"
    if suffix == ".safetensors":
        entry = {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}
        safetensors(path, json.dumps({name: entry}).encode())
        os.truncate(path, path.stat().st_size + 4 * count)
    else:
        with torch.serialization.skip_data():
            torch.save({"state_dict": {name: torch.empty(count)}}, path)
    assert path.stat().st_size > 4 * count
    refused(path, "a diffusion checkpoint")
    path.unlink()


@pytest.mark.skipif(sys.platform != "linux", reason="mappings as Linux shows them")
@pytest.mark.parametrize("kind", ["archive.pth", "stream.pth", "model.safetensors"])
def test_nothing_stays_mapped(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    if path.suffix == ".safetensors":
        write_checkpoint(path, Checkpoint(CONFIG, WEIGHTS))
    else:
        saved(WEIGHTS, path, legacy=kind.startswith("stream"))
    checkpoint = read_checkpoint(path)
    assert path.name not in Path("/proc/self/maps").read_text()
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert all(torch.equal(checkpoint.state_dict[k], w) for k, w in WEIGHTS.items())


def test_memory_that_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    path = saved(WEIGHTS, tmp_path / "large.pth")
    monkeypatch.setattr("swinir_core.checkpoint._copied", fail)
    refused(path, "do not fit into the memory")


@pytest.mark.parametrize("error", [RecursionError, NotImplementedError, OverflowError, KeyError])
def test_no_other_exception_escapes(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise error("some\nreason")

    path = saved(WEIGHTS, tmp_path / "odd.pth")
    with monkeypatch.context() as patch:
        patch.setattr("swinir_core.checkpoint._check_weights", fail)
        refused(path, "some")
    monkeypatch.setattr("swinir_core.model_files._unwrap", fail)
    refused(path)


@pytest.mark.parametrize("place", ["checkpoint._check_weights", "model_files._unwrap"])
def test_an_interrupt_passes(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> Any:
        raise KeyboardInterrupt

    path = saved(WEIGHTS, tmp_path / "model.pth")
    monkeypatch.setattr(f"swinir_core.{place}", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_checkpoint(path)


# Everything else


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
