"""Model files from strangers whose headers, configurations or weights lie: ``read_checkpoint``
raises ``CheckpointError`` naming the file, soon, and without taking memory for what they claim."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save, save_file
from torch import Tensor

from swinir_core import read_checkpoint
from swinir_core.checkpoints.checkpoint import CONFIG_KEY
from swinir_core.checkpoints.recognise import recognise
from swinir_core.checkpoints.wrapping import choose
from tests.support.hostile import (
    CONFIG,
    LAYER,
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
    "a billion layers": (
        {"depths": [10**9], "num_heads": [2]},
        "Swin layers is 1000000000; at most 1024",
    ),
    "a thousand layers, with none": ({"depths": [512, 512]}, "too few for 1024 Swin layers"),
    "10,000 blocks": ({"depths": [5000, 5000]}, "Swin layers is 10000; at most 1024"),
    "10,000 RSTBs": ({"depths": [1] * 10**4, "num_heads": [1] * 10**4}, "at most 1024"),
    "window": ({"window_size": 10**9, "img_size": 10**9}, "window_size is 1000000000; at most 64"),
    "scale": ({"scale": 2**40}, "scale is 1099511627776; at most 64"),
    "unshuffle": ({"start_unshuffle": 2**40}, "start_unshuffle is .*; at most 64"),
    "patch": ({"img_size": 10**20}, "img_size is .*; at most 65536"),
    "features": ({"num_feat": 2**40}, "num_feat is .*; at most 65536"),
    "dimension beyond floats": ({"embed_dim": 10**400}, "no valid configuration"),
    "millions of RSTBs": ({"depths": [1] * 10**6, "num_heads": [1] * 10**6}, "at most 1024"),
    "dimension": ({"embed_dim": 6 * 2**40}, "embed_dim is .*; at most 65536"),
    "hidden channels": ({"mlp_ratio": 9e5}, "hidden_dim is 10800000; at most 65536"),
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
    refused(path, "Swin layers is 1101; at most 1024")


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


NAMELESS = "layers0residual_groupblocks0norm1weight"


def test_names_are_read_in_one_pass() -> None:
    names = [f"layers.{i}.residual_group.blocks.0.norm1.weight" for i in range(9000)]
    with bounded(2.0), pytest.raises(ValueError, match=r"'layers\.2\.residual_group"):
        recognise(WEIGHTS | dict.fromkeys(names, WEIGHTS["norm.bias"]))


AVERAGES = {
    "many": {"x" * i + NAMELESS: 1 for i in range(70)},
    "many, and other names": {"x" * i + NAMELESS: 1 for i in range(70)}
    | {f"{'x' * 70}{i}weight": 1 for i in range(20_000)},
    "nearly names": {NAMELESS: 1} | {f"{'norm1' * 40}{'1' * 40}{i}x": 1 for i in range(3000)},
}


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_without_dots_are_named_in_bounded_time(name: str) -> None:
    with bounded(2.0):
        assert choose({("ema",): AVERAGES[name]}).averaged


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
