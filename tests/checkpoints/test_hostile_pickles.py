"""Pickles and zip files from strangers: nothing runs, nothing is allocated for what they claim, and
what ``torch.save`` wrote is read as torch reads it."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swinir_core import SwinIR, SwinIRConfig, read_checkpoint
from tests.support.hostile import (
    CONFIG,
    LAYER,
    WEIGHTS,
    check_loaded,
    refused,
    rezipped,
    saved,
    text,
    with_pickle,
)

# Pickles that do something


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """Operations of a pickle that call ``module.name``."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def exploits(proof: Path) -> dict[str, bytes]:
    touch = f"touch '{proof}'" if os.name != "nt" else f'type nul > "{proof}"'
    code = f"open({str(proof)!r}, 'w').close()"
    import_os = call("builtins", "__import__", text("os"))
    system = call("builtins", "getattr", import_os, text("system"))
    return {
        "os.system": call(os.system.__module__, "system", text(touch)),
        "eval": call("builtins", "eval", text(code)),
        "exec": call("builtins", "exec", text(code)),
        "eval of Python 2": call("__builtin__", "eval", text(code)),
        "getattr chain": system + b"(" + text(touch) + b"tR",
        "open": call("builtins", "open", text(str(proof)), text("w")),
        "dotted name": text("pathlib")
        + text("Path.touch")
        + b"\x93("
        + call("pathlib", "Path", text(str(proof)))
        + b"tR",
        "protocol 4": text("builtins") + text("eval") + b"\x93(" + text(code) + b"tR",
        "instance": b"(" + text(code) + b"ibuiltins\neval\n",
        "object": b"(cbuiltins\neval\n" + text(code) + b"o",
    }


KINDS = list(exploits(Path("proof")))
PLACES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "alone": lambda pickled, bad: b"\x80\x04" + bad + b".",
    "beside weights": lambda pickled, bad: pickled[:-1] + text("extra") + bad + b"s.",
    "as a weight": lambda pickled, bad: pickled[:-1] + text("norm.weight") + bad + b"s.",
    "as a key": lambda pickled, bad: pickled[:-1] + bad + b"Ns.",
    "dropped": lambda pickled, bad: pickled[:-1] + bad + b"0.",
    "as a storage": lambda pickled, bad: pickled[:-1] + bad + b"Q0.",
    "as state": lambda pickled, bad: pickled[:-1] + bad + b"b.",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_exploits_are_real(kind: str, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    bad = exploits(proof)[kind]
    pickle.loads((b"\x80\x04" if b"\x93" in bad else b"\x80\x02") + bad + b".")
    assert proof.exists()


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_exploit_is_executed(kind: str, place: str, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    bad = exploits(proof)[kind]
    archive = saved(WEIGHTS, tmp_path / "archive.ckpt")
    rezipped(
        archive,
        lambda name, data: PLACES[place](data, bad) if name.endswith("data.pkl") else data,
    )
    stream = saved(WEIGHTS, tmp_path / "stream.pth", legacy=True)
    whole = stream.read_bytes()
    end = whole.rindex(b".\x80\x02]") + 1  # Behind the weights come the keys of the storages.
    stream.write_bytes(PLACES[place](whole[:end], bad) + whole[end:])
    raw = tmp_path / "raw.pt"
    raw.write_bytes(PLACES[place](b"\x80\x02}.", bad))
    named_safetensors = tmp_path / "named.safetensors"
    named_safetensors.write_bytes(raw.read_bytes())
    for path in (archive, stream, raw, named_safetensors):
        refused(path)
    assert not proof.exists()


# Pickles that only cost: time, memory

NESTED = b"})" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(60))
PAIRS = b"](" + (text("a") + b"N\x86") * 100_000 + b"eq\x01"
DAMAGED, NOTHING = "truncated or damaged", "no weights under names we know"
BOMBS = {
    "bytearray": (b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R", "holds one NoneType"),
    "tensor": (b"ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R", "holds one NoneType"),
    "codec": (
        b"c_codecs\nencode\nq\x01" + text("ab") + b"h\x01" * 40 + (text("hex") + b"\x86R") * 40,
        DAMAGED,
    ),
    "nested key": (NESTED + b"Ns", NOTHING),
    "nested set": (b"c__builtin__\nset\n](" + NESTED[1:] + b"e\x85R", "holds one NoneType"),
    "colliding keys": (
        b"}("
        + b"".join(
            b"\x8a\x0a" + (i * (2**61 - 1)).to_bytes(10, "little") + b"N" for i in range(200_000)
        )
        + b"u",
        NOTHING,
    ),
    "one list as many dictionaries": (
        PAIRS + b"ccollections\nOrderedDict\nq\x02" + b"h\x02h\x01\x85R" * 100_000,
        DAMAGED,
    ),
    "objects": (b"}" * 4_190_000, NOTHING),
    "marks": (b"(" * 4_190_000 + b"N", "holds one NoneType"),
    "memo": (b"}" + b"\x94" * 4_190_000, NOTHING),
    "marked lists": (b"(]" * 2_095_000, "holds one list"),
    "tensors of one list of arguments": (
        b"]("
        + b"N" * 500_000
        + b"eq\x01ctorch._utils\n_rebuild_qtensor\nq\x02"
        + b"h\x02h\x01R" * 500_000,
        DAMAGED,
    ),
    "a byte array that is not there": (b"\x96" + b"\xff" * 7 + b"\x3f", DAMAGED),
    "a frame that is not there": (b"\x95" + b"\xff" * 8, "no weights|damaged"),
    "sets of nested tuples": (b"\x8f(" + NESTED[1:] + b"\x90", "holds one NoneType"),
    "a frozen set of nested tuples": (b"(" + NESTED[1:] + b"\x91", DAMAGED),
    "views of one storage": (
        b"]("
        + text("storage")
        + b"ctorch\nByteStorage\n"
        + text("0")
        + b"NK\x01"
        + text("0")
        + b"K\x00K\x01\x87tq\x01"
        + b"("
        + b"h\x01Q" * 1_390_000
        + b"t",
        DAMAGED,
    ),
    "depth": (b"]" * 500_000 + b"a" * 499_999, "holds one list"),
    "text": (b"X\xff\xff\xff\xffabc", DAMAGED),
    "beyond the index": (text("a" * 9_000_000), "an index of 9000008 bytes"),
    "dict in itself": (b"}q\x01" + text("state_dict") + b"h\x01s", NOTHING),
    "ring of dicts": (
        b"}q\x01" + text("model") + b"}" + text("net") + b"h\x01ss",
        NOTHING,
    ),
    "memo that is not there": (b"h\x07", DAMAGED),
    "empty stack": (b"", DAMAGED),
}


@pytest.mark.parametrize("name", BOMBS)
def test_costly_pickles(name: str, tmp_path: Path) -> None:
    operations, words = BOMBS[name]
    refused(with_pickle(tmp_path / "archive.pth", b"\x80\x02" + operations + b"."), words)


# Zip files


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressed_records(method: int, tmp_path: Path) -> None:
    path = saved(WEIGHTS | {"extra": torch.zeros(10_000_000)}, tmp_path / "bomb.pth")
    rezipped(path, lambda name, data: data, method)
    assert path.stat().st_size < 1_000_000
    refused(path, "compressed")


def test_records_of_one_name(tmp_path: Path) -> None:
    path = saved(WEIGHTS, tmp_path / "twice.pth")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"other")
    refused(path, "two records of one name")


def central(path: Path) -> tuple[bytearray, list[int]]:
    """A zip file, and where the entries of its central directory begin."""
    data = bytearray(path.read_bytes())
    starts, at = [], struct.unpack("<I", data[-6:-2])[0]
    while data[at : at + 4] == b"PK\x01\x02":
        starts.append(at)
        at += 46 + sum(struct.unpack("<HHH", data[at + 28 : at + 34]))
    return data, starts


@pytest.mark.parametrize("size", [2**31, 2**32 - 2, 0])
def test_records_that_lie_about_their_size(size: int, tmp_path: Path) -> None:
    path = rezipped(saved(WEIGHTS, tmp_path / "liar.pth"), lambda name, data: data)
    data, starts = central(path)
    for start in starts[2:]:
        data[start + 20 : start + 28] = struct.pack("<II", size, size)
    path.write_bytes(data)
    refused(path)


def test_records_on_one_another(tmp_path: Path) -> None:
    path = rezipped(saved(WEIGHTS, tmp_path / "overlapping.pth"), lambda name, data: data)
    data, starts = central(path)
    largest = max(starts, key=lambda start: data[start + 20 : start + 24][::-1])
    for start in starts:
        if b"/data/" in data[start + 46 : start + 90]:
            data[start + 20 : start + 28] = data[largest + 20 : largest + 28]
            data[start + 42 : start + 46] = data[largest + 42 : largest + 46]
    path.write_bytes(data)
    refused(path, "more bytes than the file has")


def test_a_central_directory_of_millions(tmp_path: Path) -> None:
    path = tmp_path / "crowd.pth"
    entry = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, *(0,) * 9, 1, *(0,) * 6) + b"a"
    directory = entry * 1_500_000
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0, 0, len(directory), 4, 0)
    path.write_bytes(b"PK\x03\x04" + directory + end)
    refused(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_tensors_that_claim_more_than_the_file_has(legacy: bool, tmp_path: Path) -> None:
    huge = WEIGHTS | {
        "conv_first.weight": torch.zeros(1).expand(65536, 3, 3, 3),
        "conv_first.bias": torch.zeros(1).expand(65536),
    }
    refused(saved(huge, tmp_path / "expanded.pth", legacy))
    bias = f"{LAYER}attn.qkv.weight"
    big = SwinIR(SwinIRConfig(**{**CONFIG.to_dict(), "embed_dim": 6000}), device="meta")
    everything = {k: torch.zeros(1).expand(w.shape) for k, w in big.state_dict().items()}
    assert everything[bias].numel() > 10**8
    refused(saved(everything, tmp_path / "views.pth", legacy), r"claim \d+ bytes, the file has")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_tensor_beyond_its_storage(legacy: bool, tmp_path: Path) -> None:
    path = saved(WEIGHTS, tmp_path / "beyond.pth", legacy)
    size = b"K\x0cK\x03K\x03K\x03"  # Of the first convolution.
    assert size in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(size, b"K\xffK\xffK\xffK\xff", 1))
    refused(path)


# What must load all the same


def training_checkpoint() -> dict[Any, Any]:
    parameters = {key: torch.nn.Parameter(weight) for key, weight in WEIGHTS.items()}
    moments = {i: {"step": torch.tensor(1.0), "exp_avg": w} for i, w in enumerate(WEIGHTS.values())}
    groups = [{"lr": 2e-4, "betas": (0.9, 0.99), "amsgrad": False, "params": list(moments)}]
    return {
        "state_dict": OrderedDict(parameters),
        "optimizer": {"state": moments, "param_groups": groups},
        "size": torch.Size([2, 3]),
        "kinds": {1, 2.5, "a"},
        "milestones": Counter([1, 2, 2]),
        "bytes": b"\x00\xff",
        "array": bytearray(b"abc"),
        "seed": 2**100,
        (1, 2): -1,
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "generator": torch.get_rng_state(),
        "odd": [1j, None, True, -5, 3.5, ((),), torch.zeros(2).to_sparse()],
    }


def shared() -> dict[str, Tensor]:
    """All weights as views of one storage, some of them not contiguous."""
    flat = torch.cat(
        [
            torch.zeros(1),
            *(weight.mT.flatten() if weight.ndim > 1 else weight for weight in WEIGHTS.values()),
        ]
    )
    views, at = {}, 1
    for key, weight in WEIGHTS.items():
        part = flat[at : at + weight.numel()]
        views[key] = part.view(weight.mT.shape).mT if weight.ndim > 1 else part
        at += weight.numel()
    return views


VALID: dict[str, Callable[[], Any]] = {
    "training": training_checkpoint,
    "shared storage": shared,
    "parameters of PyTorch 0.3": lambda: {key: OldParameter(w) for key, w in WEIGHTS.items()},
    "ordered, with versions": lambda: versions(),
}


class OldParameter:
    """Pickled as parameters were when torchvision's weights of VGG19 were published."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __reduce_ex__(self, protocol: Any) -> Any:
        return torch.nn.Parameter, (self.weight,), (True, False, OrderedDict())


def versions() -> Any:
    contents = OrderedDict(WEIGHTS)
    contents._metadata = OrderedDict({"": {"version": 2}})  # pyright: ignore
    return contents


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", VALID)
def test_what_torch_reads_is_read(name: str, legacy: bool, protocol: int, tmp_path: Path) -> None:
    path = saved(VALID[name](), tmp_path / "valid.pth", legacy, protocol)
    torch.load(path, weights_only=protocol == 2)  # torch itself trusts no later protocol.
    checkpoint = read_checkpoint(path)
    check_loaded(checkpoint)
    assert all(torch.equal(checkpoint.state_dict[key], w) for key, w in WEIGHTS.items())


def test_the_other_byte_order(tmp_path: Path) -> None:
    path = saved(WEIGHTS, tmp_path / "big.pth")

    def swap(name: str, data: bytes) -> bytes:
        if name.endswith("byteorder"):
            return b"big" if sys.byteorder == "little" else b"little"
        return (
            torch.frombuffer(bytearray(data), dtype=torch.int32).numpy().byteswap().tobytes()
            if "/data/" in name
            else data
        )

    rezipped(path, swap)
    checkpoint = read_checkpoint(path)
    assert all(torch.equal(checkpoint.state_dict[key], w) for key, w in WEIGHTS.items())
