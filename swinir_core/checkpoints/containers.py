"""Files to tensors: what safetensors and ``torch.save`` wrote, mapped, with no trust in its claims.

``torch.save`` has two formats, the zip file of torch 1.6 and later and the stream of pickles before
it. Sizes are compared with the file before anything of that size is made. What the tensors mean is
the business of ``checkpoint``.
"""

from __future__ import annotations

import io
import json
import mmap
import stat
import struct
import sys
import zipfile
from collections.abc import Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from ..errors import CheckpointError
from ..model_names import SUFFIXES
from ..text import quoted
from .limits import (
    DEEPEST_WRAPPING,
    LONGEST_INDEX,
    LONGEST_PICKLE,
    MOST_DIMENSIONS,
    MOST_TENSORS,
)
from .unpickle import (
    Array,
    ForeignObjectError,
    StoredTensor,
    Unpickler,
    UnsupportedTensor,
    is_size,
)
from .wrapping import Place, Taken, choose, is_averaged

_BEGINNING = 4096
"""Bytes that tell what a file is."""

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


_STATE = (
    "this is what a trainer needs to go on (the state of its optimizer), without the network; take "
    "the weights that were saved beside it, such as net_g_latest.pth, *_G.pth or *_E.pth"
)
_TORCHSCRIPT = (
    "this is a TorchScript archive, a program with its weights; open it with torch.jit.load and "
    "save its state_dict() with torch.save"
)
_EXPORTED = (
    "this is an exported program (torch.export), not a state dict; open it with torch.export.load "
    "and save its state_dict with torch.save"
)
_ARRAYS = (
    "it holds NumPy arrays, not tensors; make them tensors with torch.from_numpy and save the "
    "dictionary with torch.save"
)
_ARCHIVE = "this is an archive of files, not a model; unpack it and take the model inside"
_ONNX = "this is for ONNX programs, which hold no state dict; take the .pth or .safetensors of it"

_OTHER_SUFFIXES = {
    ".state": _STATE,
    ".pt2": _EXPORTED,
    **dict.fromkeys((".npz", ".npy"), _ARRAYS),
    **dict.fromkeys((".zip", ".7z", ".rar", ".gz", ".tar"), _ARCHIVE),
    ".onnx": _ONNX,
}
# First bytes of files that are given the name of a model.
_OTHER_FILES = {
    b"<!doctype": "this is a web page, not a model; download the file itself",
    b"<html": "this is a web page, not a model; download the file itself",
    b"<?xml": "this is a web page, not a model; download the file itself",
    b"version https://git-lfs": (
        "this is a Git LFS pointer, not the model; fetch the file itself with git lfs pull"
    ),
    b"\x93numpy": _ARRAYS,
    **dict.fromkeys((b"\x1f\x8b", b"7z\xbc\xaf", b"rar!", b"bzh", b"\xfd7zxz"), _ARCHIVE),
    b"\x89hdf": "this is an HDF5 file, as Keras writes; only weights of PyTorch can be read",
    b"gguf": "this is a GGUF file; take the .pth or .safetensors that it was made from",
}


class _Refused(ValueError):  # noqa: N818
    """A file that is not read. The message is the reason, a clause without the name of the file."""


class Contents(NamedTuple):
    """Weights of one network and metadata, as a file holds them."""

    weights: dict[str, Tensor]
    """Every tensor that may be a weight, mapped, under the name it has in the network. One that
    holds no ordinary numbers (sparse, quantised, ...) is an empty one on the meta device."""
    metadata: dict[str, str]
    taken: str
    """Place of the weights in the file, in a clause; empty where there was no choice."""


def read_tensors(path: Path) -> Contents:
    """Map the weights of a file, found in what trainers put around them, and read the metadata.

    Raises ``CheckpointError`` naming the file.
    """
    try:
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            suffixes = ", ".join(SUFFIXES)
            reason = f"a model file ends in {suffixes}, not {path.suffix!r}"
            raise _Refused(_OTHER_SUFFIXES.get(suffix, reason))
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            what = "a folder" if stat.S_ISDIR(status.st_mode) else "not a file of data"
            raise _Refused(f"this is {what}; check the name")
        if status.st_size == 0:
            raise _Refused("the file is empty; download it again")
        if path.suffix.lower() == ".safetensors":
            return _read_safetensors(path)
        return _read_torch(path)
    except Exception as error:  # A damaged file raises anything.
        # Of a file that was not found the folder matters, of any other the name is enough.
        where = path if isinstance(error, (OSError, UnicodeError)) else path.name
        raise CheckpointError(f"{where}: {_reason(path, error)}.") from error


def _reason(path: Path, error: Exception) -> str:
    match error:
        case _Refused():
            return str(error)
        case FileNotFoundError():
            return "there is no such file; check the name"
        case PermissionError():
            return "cannot be read, because permission is denied"
        case ForeignObjectError():
            return (
                f"it holds Python objects besides weights ({quoted(error)}), which are not loaded "
                f"because they can run code; export model.state_dict() instead"
            )
        case UnicodeEncodeError():
            return "safetensors opens only paths that are UTF-8; rename it"
        case MemoryError():
            return "it does not fit into memory"
    return _what_it_is(path)


def _what_it_is(path: Path) -> str:
    """Guess from the first bytes why a file could not be read."""
    try:
        with path.open("rb") as file:
            start = file.read(_BEGINNING).lstrip()
    except (OSError, ValueError):
        return "it cannot be opened; check the name"
    for first, reason in _OTHER_FILES.items():
        if start.lower().startswith(first):
            return reason
    if start[257:262] == b"ustar":
        return _ARCHIVE
    if start.startswith(b"\x80") and b"numpy" in start:
        return _ARRAYS  # A pickle too long to be read.
    if path.suffix.lower() == ".safetensors":
        if start.startswith((b"PK", b"\x80")):
            return "this is a pickled file; rename it to .pth"
    elif start[8:9] == b"{":
        return "this is a safetensors file; rename it to .safetensors"
    return "the file is truncated or damaged, or not a model; download it again"


def _check_count(names: Sized) -> None:
    if len(names) > MOST_TENSORS:
        raise _Refused(f"it holds {len(names)} tensors, and a SwinIR {MOST_TENSORS} at most")


# Safetensors


def _read_safetensors(path: Path) -> Contents:
    _check_header(path)
    str(path).encode()  # What safetensors raises for other names depends on its version.
    with safe_open(path, framework="pt") as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = dict(file.metadata() or {})
    if not weights:
        raise _Refused("it holds no weights")
    taken = _chosen({(): weights}, {})
    return Contents(taken.weights, metadata, str(taken))


def _check_header(path: Path) -> None:
    """Refuse a header that is too large or ambiguous, before the library makes anything of it.

    The library takes a header of any length, and the last of two entries of one name.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size - 8:
            raise ValueError("the header is longer than the file")
        if length > LONGEST_INDEX:
            raise _Refused(
                f"a header of {length} bytes is not that of a SwinIR, which takes {LONGEST_INDEX} "
                f"at most"
            )
        header = file.read(length)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        named = dict(pairs)
        if len(named) < len(pairs):
            raise _Refused("its header gives one name twice; save it again")
        return named

    _check_count(json.loads(header, object_pairs_hook=once))


# torch.save


def _read_torch(path: Path) -> Contents:
    with _BoundedFile(path) as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        is_zip = mapped[:4] == b"PK\x03\x04"
        contents, places = _read_zip(file, mapped) if is_zip else _read_stream(mapped)
    dictionaries = _dictionaries(contents)
    optimizers = [(*at, "state") for at, values in dictionaries.items() if "param_groups" in values]
    groups = {
        at: tensors
        for at, values in dictionaries.items()
        if (tensors := _tensors(values)) and not any(at[: len(o)] == o for o in optimizers)
    }
    lists = _averages_without_names(dictionaries)
    if not groups and not lists:
        raise _Refused(_STATE if optimizers else _no_weights(contents, dictionaries))
    taken = _chosen(groups, lists)
    _check_count(taken.weights)
    no_numbers = torch.empty(0, device="meta")
    weights = {
        key: no_numbers if isinstance(value, UnsupportedTensor) else _mapped(value, mapped, places)
        for key, value in taken.weights.items()
    }
    return Contents(weights, {}, str(taken))


def _chosen(
    groups: Mapping[Place, Mapping[str, Any]], lists: Mapping[Place, Sequence[Any]]
) -> Taken[Any]:
    try:
        return choose(groups, lists)
    except ValueError as error:
        raise _Refused(str(error)) from error


def _dictionaries(contents: Any) -> dict[Place, Mapping[str, Any]]:
    """Every dictionary in ``contents``, itself included, by the names it lies under.

    One that is there twice has the shortest of its paths.
    """
    found: dict[Place, Mapping[str, Any]] = {}
    seen: set[int] = set()
    level: list[tuple[Place, Any]] = [((), contents)]
    for _ in range(DEEPEST_WRAPPING + 1):
        inner: list[tuple[Place, Any]] = []
        for at, value in level:
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, Mapping):
                found[at] = value
                inner += [((*at, name), v) for name, v in value.items()]
            elif isinstance(value, (list, tuple)):
                inner += [((*at, str(i)), v) for i, v in enumerate(value)]
        level = [(at, v) for at, v in inner if isinstance(v, (Mapping, list, tuple))]
    return found


def _tensors(values: Mapping[str, Any]) -> dict[str, StoredTensor | UnsupportedTensor]:
    return {k: v for k, v in values.items() if isinstance(v, (StoredTensor, UnsupportedTensor))}


def _averages_without_names(
    dictionaries: Mapping[Place, Mapping[str, Any]],
) -> dict[Place, Sequence[StoredTensor]]:
    return {
        (*at, name): values
        for at, dictionary in dictionaries.items()
        for name, values in dictionary.items()
        if is_averaged(name)
        and isinstance(values, (list, tuple))
        and values
        and all(isinstance(value, StoredTensor) for value in values)
    }


def _no_weights(contents: Any, dictionaries: Mapping[Place, Mapping[str, Any]]) -> str:
    """Say what a file without a single tensor in a dictionary holds."""
    if isinstance(contents, Array) or any(
        isinstance(value, Array) for values in dictionaries.values() for value in values.values()
    ):
        return _ARRAYS
    if not isinstance(contents, Mapping):
        kind = "tensor" if isinstance(contents, StoredTensor) else type(contents).__name__
        return f"holds one {kind}, not a state dict; export model.state_dict() instead"
    keys = quoted(", ".join(repr(key) for key in list(contents)[:5]))
    return f"it holds no weights under names we know, only {keys or 'nothing'}"


_Places = dict[str, tuple[int, int]]
"""By the key of a storage, its first byte in the file and the one behind its last."""


class _BoundedFile(io.FileIO):
    """A file of which no ``read`` returns more than an index may have, whatever it claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        unlimited = size is None or not 0 <= size <= LONGEST_INDEX
        return super().read(LONGEST_INDEX if unlimited else size)


def _read_zip(file: io.FileIO, mapped: mmap.mmap) -> tuple[Any, _Places]:
    with zipfile.ZipFile(file) as archive:
        records = {record.filename: record for record in archive.infolist()}
        if len(records) < len(archive.filelist):
            raise _Refused("holds two records of one name; save it again")
    what = _other_archive([name.partition("/")[2] or name for name in records])
    if what:
        raise _Refused(what)
    if any(record.compress_type != zipfile.ZIP_STORED for record in records.values()):
        raise _Refused(
            "its records are compressed, which torch.save never does; unpack the file with a zip "
            "program and load and save what was inside"
        )
    if sum(record.file_size for record in records.values()) > len(mapped):
        raise _Refused("its records claim more bytes than the file has")

    def place(record: str) -> tuple[int, int]:
        header = records[record].header_offset
        name_length, extra_length = struct.unpack("<HH", mapped[header + 26 : header + 30])
        start = header + 30 + name_length + extra_length
        return start, start + records[record].file_size

    root = next(iter(records)).split("/")[0]
    start, end = place(f"{root}/data.pkl")
    if end - start > LONGEST_PICKLE:
        if b"numpy" in mapped[start : start + _BEGINNING]:
            raise _Refused(_ARRAYS)
        raise _Refused(f"an index of {end - start} bytes is not that of a SwinIR")
    unpickler = Unpickler(io.BytesIO(mapped[start:end]))
    contents = unpickler.load()
    places = {key: place(f"{root}/data/{key}") for key in unpickler.storages}
    if f"{root}/byteorder" in records:
        order = mapped[slice(*place(f"{root}/byteorder"))].decode("ascii")
        if order != sys.byteorder:
            for key, storage in unpickler.storages.items():
                _storage(mapped, *places[key]).byteswap(storage.dtype)
    return contents, places


def _other_archive(names: Sequence[str]) -> str:
    """Say what a zip file is whose records, without their common folder, are no ``torch.save``'s;
    empty for one of it."""
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        return _TORCHSCRIPT
    exported = ("serialized_exported_program.json", "archive_format")
    if any(name.endswith(exported) or name.startswith("models/") for name in names):
        return _EXPORTED
    if "data.pkl" in names:
        return ""
    return _ARRAYS if all(name.endswith(".npy") for name in names) else _ARCHIVE


def _read_stream(mapped: mmap.mmap) -> tuple[Any, _Places]:
    index = io.BytesIO(mapped[:LONGEST_PICKLE])
    magic = Unpickler(index).load()
    if isinstance(magic, (Mapping, Array, list, tuple)):  # What pickle.dump wrote by itself.
        return magic, {}
    protocol, _ = (Unpickler(index).load() for _ in range(2))  # The last: about the machine.
    if (magic, protocol) != (_MAGIC, _PROTOCOL):
        raise ValueError("not a file of torch.save")
    unpickler = Unpickler(index)
    contents = unpickler.load()
    order = Unpickler(index).load()
    places, position = {}, index.tell()
    for key in order:
        storage = unpickler.storages[key]
        (numel,) = struct.unpack("<q", mapped[position : position + 8])
        if numel != storage.numel:
            raise ValueError("a storage of another size than its tensors say")
        start, position = position + 8, position + 8 + numel * storage.dtype.itemsize
        places[key] = (start, position)
    return contents, places


def _storage(mapped: mmap.mmap, start: int, end: int) -> torch.UntypedStorage:
    """Make bytes of the file a storage, without a copy."""
    if end > len(mapped):
        raise ValueError("a storage ends behind the file")
    if start == end:
        return torch.UntypedStorage(0)
    return torch.frombuffer(
        mapped, dtype=torch.uint8, offset=start, count=end - start
    ).untyped_storage()


def _mapped(stored: StoredTensor, mapped: mmap.mmap, places: _Places) -> Tensor:
    """Make a tensor of numbers in the file, without a copy.

    Raises ``ValueError`` where the file does not have them all.
    """
    shape, stride = stored.shape, stored.stride
    fits = len(shape) == len(stride) <= MOST_DIMENSIONS
    if not fits or not all(map(is_size, (stored.offset, *shape, *stride))):
        raise ValueError("a tensor of impossible shape")
    dtype = stored.storage.dtype
    if 0 in shape:
        return torch.empty(shape, dtype=dtype)
    start, end = places[stored.storage.key]
    last = stored.offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if start + (last + 1) * dtype.itemsize > end:
        raise ValueError("a tensor reaches beyond its storage")
    numbers = torch.empty(0, dtype=dtype)
    return numbers.set_(_storage(mapped, start, end), stored.offset, shape, stride)
