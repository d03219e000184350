"""Tensors out of model files of every kind, mapped, with no trust in what the files claim.

Two formats of ``torch.save`` (the zip file of torch 1.6 and later, and the stream of pickles before
it) and safetensors. Sizes are compared with the file before anything of that size is made.
"""

from __future__ import annotations

import io
import json
import mmap
import stat
import struct
import sys
import zipfile
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import CheckpointError
from .recognise import MOST_TENSORS
from .unpickle import (
    LONGEST_INDEX,
    LONGEST_PICKLE,
    ForeignObjectError,
    MappedFile,
    NoNumbers,
    StoredTensor,
    Unpickler,
)

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")

# Where training code puts the weights, best first: an average beats the last step.
_WRAPPERS = (
    *("params_ema", "model_ema", "state_dict_ema", "ema"),
    *("params", "state_dict", "model_state_dict", "model"),
    *("net_g", "netG", "generator", "network", "net", "weights"),
)
_DEEPEST_WRAPPING = 8
_LONGEST_REASON = 400
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor that may be a weight, still in the mapped file, and the metadata."""
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(
            f"{path.name}: a model file ends in {', '.join(SUFFIXES)}, not {path.suffix!r}."
        )
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            what = "this is a folder" if stat.S_ISDIR(mode) else "this is not a file of data"
            raise CheckpointError(f"{path}: {what}; check the name.")
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path.name}: the file is empty; download it again.")
        if path.suffix.lower() == ".safetensors":
            return _read_safetensors(path)
        return _read_pickled(path), {}
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file; check the name.") from error
    except PermissionError as error:
        raise CheckpointError(f"{path}: cannot be read, because permission is denied.") from error
    except ForeignObjectError as error:
        raise CheckpointError(
            f"{path.name}: it holds Python objects besides weights ({shortened(error)}), which "
            f"are not loaded because they can run code; export model.state_dict() instead."
        ) from error
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{path}: safetensors opens only paths that are UTF-8; rename it."
        ) from error
    except MemoryError as error:
        raise CheckpointError(f"{path.name}: it does not fit into memory.") from error
    except Exception as error:  # A damaged file raises anything.
        raise CheckpointError(f"{path.name}: {_what_it_is(path)}.") from error


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    _check_header(path)
    str(path).encode()  # What safetensors raises for other names depends on its version.
    with safe_open(path, framework="pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata() or {})
    if not weights:
        raise CheckpointError(f"{path.name}: it holds no weights.")
    return weights, metadata


def _check_header(path: Path) -> None:
    """Refuse a header that is too large or ambiguous, before anything is made of it."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size - 8:
            raise ValueError("the header is longer than the file")
        if length > LONGEST_INDEX:
            raise CheckpointError(
                f"{path.name}: a header of {length} bytes is not that of a SwinIR, which takes "
                f"{LONGEST_INDEX} at most."
            )
        header = file.read(length)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        named = dict(pairs)
        if len(named) < len(pairs):
            raise CheckpointError(f"{path.name}: its header gives one name twice; save it again.")
        return named

    _check_count(json.loads(header, object_pairs_hook=once), path.name)


def _read_pickled(path: Path) -> dict[str, Tensor]:
    contents = read_pickled(path)
    if not isinstance(contents, Mapping):
        raise CheckpointError(
            f"{path.name}: holds a {type(contents).__name__}, not a state dict; export "
            f"model.state_dict() instead."
        )
    weights = _unwrap(contents)
    if not weights:
        keys = ", ".join(repr(key) for key in list(contents)[:5])
        raise CheckpointError(
            f"{path.name}: it holds no weights under names we know, only "
            f"{shortened(keys) or 'nothing'}."
        )
    _check_count(weights, path.name)
    no_numbers = torch.empty(0, device="meta")
    return {
        key: value.tensor() if isinstance(value, StoredTensor) else no_numbers
        for key, value in weights.items()
    }


def _check_count(names: Sized, file_name: str) -> None:
    if len(names) > MOST_TENSORS:
        raise CheckpointError(
            f"{file_name}: it holds {len(names)} tensors, and a SwinIR {MOST_TENSORS} at most."
        )


def _unwrap(contents: Mapping[str, Any]) -> dict[str, StoredTensor | NoNumbers]:
    """The innermost state dict of a training checkpoint."""
    for _ in range(_DEEPEST_WRAPPING):
        inner = next((contents[k] for k in _WRAPPERS if isinstance(contents.get(k), Mapping)), None)
        if inner is None:
            break
        contents = inner
    return {k: v for k, v in contents.items() if isinstance(v, (StoredTensor, NoNumbers))}


def _what_it_is(path: Path) -> str:
    """Why a file could not be read, and what to do."""
    try:
        with path.open("rb") as file:
            start = file.read(512).lstrip()
    except (OSError, ValueError):
        return "it cannot be opened; check the name"
    if start.lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "this is a web page, not a model; download the file itself"
    if start.startswith(b"version https://git-lfs"):
        return "this is a Git LFS pointer, not the model; fetch the file itself with git lfs pull"
    if path.suffix.lower() == ".safetensors":
        if start.startswith((b"PK", b"\x80")):
            return "this is a pickled file; rename it to .pth"
    elif start[8:9] == b"{":
        return "this is a safetensors file; rename it to .safetensors"
    return "the file is truncated or damaged, or not a model; download it again"


def shortened(reason: object) -> str:
    """``reason`` as one line of bounded length, whatever names in a file put into it."""
    line = "".join(c if c.isprintable() else " " for c in str(reason)[: _LONGEST_REASON + 1])
    return line if len(line) <= _LONGEST_REASON else f"{line[:-1]}…"


def read_pickled(path: Path) -> Any:
    """What ``torch.save`` wrote into ``path``: dictionaries with text as keys, lists, tuples, text,
    numbers; ``StoredTensor`` and ``NoNumbers`` for tensors; ``None`` for whatever else is known.

    Raises ``ForeignObjectError``, ``CheckpointError`` with a reason, and any other exception where
    the file is damaged.
    """
    with _BoundedFile(path) as file:
        mapped = MappedFile(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        if mapped.bytes[:4] == b"PK\x03\x04":
            return _read_zip(file, path.name, mapped)
        return _read_stream(mapped)


class _BoundedFile(io.FileIO):
    """Takes no more into memory at once than an index may have, whatever a file claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        unlimited = size is None or not 0 <= size <= LONGEST_INDEX
        return super().read(LONGEST_INDEX if unlimited else size)


def _read_zip(file: io.FileIO, name: str, mapped: MappedFile) -> Any:
    with zipfile.ZipFile(file) as archive:
        records = {record.filename: record for record in archive.infolist()}
        if len(records) < len(archive.filelist):
            raise CheckpointError(f"{name}: holds two records of one name; save it again.")
    if any(record.compress_type != zipfile.ZIP_STORED for record in records.values()):
        raise CheckpointError(
            f"{name}: its records are compressed, which torch.save never does; unpack the file "
            f"with a zip program and load and save what was inside."
        )
    if sum(record.file_size for record in records.values()) > len(mapped.bytes):
        raise CheckpointError(f"{name}: its records claim more bytes than the file has.")

    def place(record: str) -> tuple[int, int]:
        header = records[record].header_offset
        name_length, extra_length = struct.unpack("<HH", mapped.bytes[header + 26 : header + 30])
        start = header + 30 + name_length + extra_length
        end = start + records[record].file_size
        if end > len(mapped.bytes):
            raise ValueError("a record ends behind the file")
        return start, end

    root = next(iter(records)).split("/")[0]
    start, end = place(f"{root}/data.pkl")
    if end - start > LONGEST_PICKLE:
        raise CheckpointError(f"{name}: an index of {end - start} bytes is not that of a SwinIR.")
    unpickler = Unpickler(mapped, start, end)
    contents = unpickler.load()
    mapped.places.update({key: place(f"{root}/data/{key}") for key in unpickler.storages})
    if f"{root}/byteorder" in records:
        order = mapped.bytes[slice(*place(f"{root}/byteorder"))].decode("ascii")
        if order != sys.byteorder:
            for key, storage in unpickler.storages.items():
                start, end = mapped.places[key]
                if start < end:
                    mapped.storage(start, end).byteswap(storage.dtype)
    return contents


def _read_stream(mapped: MappedFile) -> Any:
    position = 0
    for expected in (_MAGIC, _PROTOCOL, None):  # The last tells about the machine.
        unpickler = Unpickler(mapped, position)
        value = unpickler.load()
        if expected is not None and value != expected:
            raise ValueError("not a file of torch.save")
        position = unpickler.position
    unpickler = Unpickler(mapped, position)
    contents = unpickler.load()
    keys = Unpickler(mapped, unpickler.position)
    order = keys.load()
    position = keys.position
    for key in order:
        storage = unpickler.storages[key]
        (numel,) = struct.unpack("<q", mapped.bytes[position : position + 8])
        start, position = position + 8, position + 8 + numel * storage.dtype.itemsize
        if numel != storage.numel or position > len(mapped.bytes):
            raise ValueError("a storage ends behind the file")
        mapped.places[key] = (start, position)
    return contents
