"""Pickles of ``torch.save``, read as data: nothing named in them is ever looked up or called.

``torch.load(weights_only=True)`` runs no foreign code either, yet a file of 250 bytes can make it
take gigabytes (``bytearray(2 * 10**9)``) or hash a nested tuple for hours. Here a pickle of bounded
size becomes dictionaries, lists and numbers, and a tensor the place of its numbers in the file.
"""

from __future__ import annotations

import io
import mmap
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

LONGEST_INDEX = 8 * 2**20
"""Bytes that names and shapes of one file may take, several times those of the largest SwinIR."""

LONGEST_PICKLE = 4 * 2**20
"""Bytes of one pickle. That of the largest SwinIR has 3 million, and no byte of a hostile one costs
more than some 80 bytes of memory."""

_MOST_DIMENSIONS = 16
_MOST_ARGUMENTS = 16
_MOST_PAIRS = 100_000

_DTYPES = {
    **{"HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16},
    **{"FloatStorage": torch.float32, "DoubleStorage": torch.float64},
    **{"ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128},
    **{"ByteStorage": torch.uint8, "CharStorage": torch.int8, "ShortStorage": torch.int16},
    **{"IntStorage": torch.int32, "LongStorage": torch.int64, "BoolStorage": torch.bool},
    **{"QInt8Storage": torch.int8, "QInt32Storage": torch.int32, "QUInt8Storage": torch.uint8},
    **{"QUInt4x2Storage": torch.uint8, "QUInt2x4Storage": torch.uint8},
    "UntypedStorage": torch.uint8,
}
_REBUILD = "torch._utils._rebuild_"
# What lies beside weights in training checkpoints and means nothing here. As in torch.load,
# everything else is refused, so that a file either loads everywhere or nowhere.
_HARMLESS = {
    *("collections.Counter", "builtins.set", "builtins.complex"),
    *("builtins.bytearray", "_codecs.encode", "torch.device"),
    "torch.serialization._get_layout",
    "torch.nn.parameter.Parameter",
}


class ForeignObjectError(ValueError):
    """A pickle asks for an object that is no part of a state dict; the message is its name."""


class NoNumbers:
    """A tensor that is sparse, quantised, nested, without values or of an exotic type."""


@dataclass
class MappedFile:
    """A file, and where in it the bytes of each storage are."""

    bytes: mmap.mmap
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By key, the first byte and the one behind the last."""

    def storage(self, start: int, end: int) -> torch.UntypedStorage:
        """These bytes, at least one, without a copy."""
        stored = torch.frombuffer(self.bytes, dtype=torch.uint8, offset=start, count=end - start)
        return stored.untyped_storage()


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers of one type that tensors share."""

    key: str
    dtype: torch.dtype
    numel: int
    first: int = 0
    """Where a view of another storage begins, in numbers."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where in a file a tensor is, and how it lies there."""

    file: MappedFile
    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        dimensions = len(self.shape)
        if dimensions > _MOST_DIMENSIONS or len(self.stride) != dimensions:
            raise ValueError("a tensor of impossible shape")
        if not all(map(_is_size, (self.offset, *self.shape, *self.stride))):
            raise ValueError("a tensor of impossible shape")

    def tensor(self) -> Tensor:
        """The numbers themselves, without a copy. Raises ``ValueError`` where they are not all in
        the file."""
        start, end = self.file.places[self.storage.key]
        itemsize = self.storage.dtype.itemsize
        start += self.storage.first * itemsize
        last = self.offset + sum(
            (n - 1) * step for n, step in zip(self.shape, self.stride, strict=True)
        )
        if 0 not in self.shape and start + (last + 1) * itemsize > end:
            raise ValueError("a tensor reaches beyond its storage")
        if 0 in self.shape:
            return torch.empty(self.shape, dtype=self.storage.dtype)
        numbers = torch.empty(0, dtype=self.storage.dtype)
        return numbers.set_(self.file.storage(start, end), self.offset, self.shape, self.stride)


def _under_names(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """A dictionary of what has a name. Other keys are of no use here, and hashing them can be made
    to take for ever."""
    return {key: value for key, value in pairs if isinstance(key, str)}


def _call(function: Any, arguments: Any) -> Any:
    """Call what ``Unpickler.find_class`` gave; nothing else in a pickle can be called."""
    if len(arguments) > _MOST_ARGUMENTS:  # One long list can be given many times over.
        raise ValueError("too many arguments")
    return function(*arguments)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


class _Index(io.BytesIO):
    """The bytes of a pickle, of which no more are read than there are."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            raise EOFError
        return data


class Unpickler(pickle._Unpickler):
    """Reads one pickle as plain values, of protocol 2 to 5 as ``torch.save`` writes them.

    The interpreter is the one in Python of the standard library. It knows only the operations in
    ``dispatch``, and those that would import, call, hash or allocate what a file asks for are
    replaced.
    """

    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: MappedFile, start: int, end: int | None = None) -> None:
        """``start`` and ``end`` say where in the file the pickle is; without an end it is as long
        as a pickle may be."""
        self.file = file
        self.storages: dict[str, Storage] = {}
        """By key, those that are no views of another."""
        self._start = start
        self._index = _Index(file.bytes[start : start + LONGEST_PICKLE if end is None else end])
        self._pairs = 0
        super().__init__(self._index, encoding="utf-8")

    @property
    def position(self) -> int:
        """The first byte of the file that is not read yet."""
        return self._start + self._index.tell()

    def find_class(self, module: str, name: str, /) -> Any:
        """The type of a storage, or a function without any effect, in the place of what is named.

        Raises ``ForeignObjectError`` for what is no part of a state dict.
        """
        full_name = f"{module}.{name}".replace("__builtin__.", "builtins.")
        of_torch = module in ("torch", "torch.cuda", "torch.sparse", "torch.storage")
        if of_torch and name in _DTYPES:
            return _DTYPES[name]
        match full_name.removeprefix(_REBUILD):
            case "tensor" | "tensor_v2":
                return self._tensor
            case "parameter" | "parameter_with_state" | "torch.Size":
                return lambda value, *_: value
            case "torch._tensor._rebuild_from_type_v2":
                return lambda function, _, arguments, *__: _call(function, arguments)
            case "collections.OrderedDict":
                return self._ordered_dict
        if full_name.startswith(_REBUILD):
            return lambda *_: NoNumbers()
        if full_name in _HARMLESS or (of_torch and _is_harmless_in_torch(name)):
            return lambda *_: None
        raise ForeignObjectError(full_name)

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a tensor names by its key, or a part of it."""
        kind, dtype, key, _, numel, *view = pid[:6]
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise ValueError("no storage")
        if not isinstance(key, str) or not _is_size(numel):
            raise ValueError("a storage of impossible size")
        storage = self.storages.setdefault(key, Storage(key, dtype, numel))
        if view and view[0] is not None:
            _, first, numel = view[0]
            if not _is_size(first):
                raise ValueError("a view of impossible size")
            storage = Storage(key, dtype, numel, first)
        return storage

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
        return StoredTensor(self.file, storage, offset, shape, stride)

    def _ordered_dict(self, pairs: Any = ()) -> dict[str, Any]:
        self._pairs += len(pairs)
        if self._pairs > _MOST_PAIRS:  # One long list can be given many times over.
            raise ValueError("too many pairs")
        return _under_names(pairs)

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(_call(function, arguments))

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _update(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            self.stack[-1].update(_under_names(zip(items[::2], items[1::2], strict=True)))

    def _make_object(self) -> None:
        self.stack.pop()
        self.stack[-1] = None

    _REPLACED: ClassVar[dict[bytes, Callable[[Any], Any]]] = {
        pickle.FRAME: lambda self: self.read(8),  # Only a hint of how much to read ahead.
        pickle.REDUCE: _reduce,
        pickle.NEWOBJ: _make_object,
        pickle.BUILD: lambda self: self.stack.pop(),
        pickle.APPEND: lambda self: self._extend([self.stack.pop()]),
        pickle.APPENDS: lambda self: self._extend(self.pop_mark()),
        pickle.SETITEM: lambda self: self._update([self.stack.pop(-2), self.stack.pop()]),
        pickle.SETITEMS: lambda self: self._update(self.pop_mark()),
        pickle.EMPTY_SET: lambda self: self.append(None),
        pickle.ADDITEMS: lambda self: self.pop_mark(),
        pickle.BYTEARRAY8: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]],
    }
    _KEPT = (
        *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.NONE),
        *(pickle.NEWTRUE, pickle.NEWFALSE, pickle.BININT, pickle.BININT1, pickle.BININT2),
        *(pickle.LONG1, pickle.BINFLOAT, pickle.SHORT_BINSTRING, pickle.SHORT_BINBYTES),
        *(pickle.BINBYTES, pickle.SHORT_BINUNICODE, pickle.BINUNICODE, pickle.EMPTY_TUPLE),
        *(pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_LIST),
        *(pickle.EMPTY_DICT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET),
        *(pickle.LONG_BINGET, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.BINPERSID),
    )
    dispatch: ClassVar[dict[int, Any]] = {
        **{code[0]: pickle._Unpickler.dispatch[code[0]] for code in _KEPT},
        **{code[0]: function for code, function in _REPLACED.items()},
    }


def _is_harmless_in_torch(name: str) -> bool:
    known = isinstance(vars(torch).get(name), (torch.dtype, torch.qscheme))
    return known or name.endswith(("Storage", "Tensor"))
