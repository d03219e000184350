"""Pickles of ``torch.save``, read as data: nothing named in them is ever looked up or called.

``torch.load(weights_only=True)`` runs no foreign code either, yet a file of 250 bytes can make it
take gigabytes (``bytearray(2 * 10**9)``) or hash a nested tuple for hours. Here a pickle becomes
dictionaries, lists and numbers within a bounded count of operations, and a tensor the place of its
numbers in the file.
"""

from __future__ import annotations

import mmap
import pickle
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

LONGEST_INDEX = 8 * 2**20
"""Bytes that names and shapes of one file may take, several times those of the largest SwinIR."""

_MOST_OPERATIONS = 2_000_000
_MOST_DIMENSIONS = 16

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
    *("collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.complex"),
    *("builtins.bytearray", "_codecs.encode", "torch.Size", "torch.device"),
    *("torch.serialization._get_layout", "torch._tensor._rebuild_from_type_v2"),
    *("torch.nn.parameter.Parameter", "torch.storage.UntypedStorage"),
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


@dataclass(frozen=True)
class Storage:
    """Numbers of one type that tensors share."""

    key: str
    dtype: torch.dtype
    numel: int
    first: int = 0
    """Where a view of another storage begins, in numbers."""


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class _Global:
    name: str


def _under_names(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """A dictionary of what has a name. Other keys are of no use here, and hashing them can be made
    to take for ever."""
    return {key: value for key, value in pairs if isinstance(key, str)}


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


class Unpickler:
    """Runs the operations of a pickle on plain values; those that ``torch.save`` writes."""

    def __init__(self, pickled: bytes | mmap.mmap, file: MappedFile, position: int = 0) -> None:
        self.pickled = pickled
        self.file = file
        self.position = position
        self.storages: dict[str, Storage] = {}
        """By key, those that are no views of another."""
        self._most = position + LONGEST_INDEX
        self._left = _MOST_OPERATIONS
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The object of the pickle at ``position``, which moves behind it. Raises anything where it
        is damaged, and ``ForeignObjectError``."""
        while (operation := self._take(1)) != pickle.STOP:
            self._spend(1)
            self._METHODS[operation](self)
        return self._stack.pop()

    def _spend(self, operations: int) -> None:
        self._left -= operations
        if self._left < 0:
            raise ValueError("too many operations")

    def _take(self, count: int) -> bytes:
        taken = self.pickled[self.position : min(self.position + count, self._most)]
        if len(taken) < count:
            raise EOFError
        self.position += count
        return taken

    def _line(self) -> str:
        end = self.pickled.find(b"\n", self.position, self.position + 200)
        if end < 0:
            raise ValueError("a name without end")
        return self._take(end + 1 - self.position)[:-1].decode()

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop_marked(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _mark(self) -> None:
        self._marks.append(len(self._stack))

    def _tuple(self, count: int) -> None:
        items = tuple(self._stack[-count:])
        if len(items) < count:
            raise IndexError
        self._stack[-count:] = [items]

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(items)

    def _set_items(self, items: list[Any]) -> None:
        pairs = zip(items[::2], items[1::2], strict=True)
        if isinstance(self._stack[-1], dict):
            self._stack[-1].update(_under_names(pairs))

    def _global(self) -> None:
        name = f"{self._line()}.{self._line()}".replace("__builtin__.", "builtins.")
        module, _, attribute = name.rpartition(".")
        of_torch = module in ("torch", "torch.cuda", "torch.sparse") and (
            attribute.endswith(("Storage", "Tensor"))
            or isinstance(vars(torch).get(attribute), (torch.dtype, torch.qscheme))
        )
        if not (name in _HARMLESS or of_torch or name.startswith(_REBUILD)):
            raise ForeignObjectError(name)
        self._push(_Global(name))

    def _persistent(self) -> None:
        kind, of_type, key, _, numel, *view = self._stack.pop()[:6]
        dtype = _DTYPES[of_type.name.rpartition(".")[2]]
        if kind != "storage" or not isinstance(key, str) or not _is_size(numel):
            raise ValueError("a storage of impossible size")
        storage = self.storages.setdefault(key, Storage(key, dtype, numel))
        if view and view[0] is not None:
            _, first, numel = view[0]
            if not _is_size(first):
                raise ValueError("a view of impossible size")
            storage = Storage(key, dtype, numel, first)
        self._push(storage)

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._push(self._result(function.name, arguments))

    def _result(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """What calling ``name`` would give, as far as it matters here."""
        match name.removeprefix(_REBUILD):
            case "tensor" | "tensor_v2":
                storage, offset, shape, stride = arguments[:4]
                return StoredTensor(self.file, storage, offset, shape, stride)
            case "parameter" | "parameter_with_state" | "torch.Size":
                return arguments[0]
            case "torch._tensor._rebuild_from_type_v2":
                return self._result(arguments[0].name, arguments[2])
            case "collections.OrderedDict":
                pairs = arguments[0] if arguments else ()
                self._spend(len(pairs))  # One list can be given many times over.
                return _under_names(pairs)
        return NoNumbers() if name.startswith(_REBUILD) else None

    def _drop_state(self) -> None:
        self._stack.pop()

    def _make_object(self) -> None:
        self._drop_state()
        self._stack[-1] = None

    _METHODS: ClassVar[dict[bytes, Callable[[Unpickler], Any]]] = {
        pickle.PROTO: lambda self: self._take(1),
        pickle.MARK: _mark,
        pickle.NONE: lambda self: self._push(None),
        pickle.NEWTRUE: lambda self: self._push(True),
        pickle.NEWFALSE: lambda self: self._push(False),
        pickle.BININT: lambda self: self._push(self._number("<i")),
        pickle.BININT1: lambda self: self._push(self._number("<B")),
        pickle.BININT2: lambda self: self._push(self._number("<H")),
        pickle.LONG1: lambda self: self._push(
            int.from_bytes(self._take(self._number("<B")), "little", signed=True)
        ),
        pickle.BINFLOAT: lambda self: self._push(self._number(">d")),
        pickle.BINUNICODE: lambda self: self._push(
            self._take(self._number("<I")).decode("utf-8", "surrogatepass")
        ),
        pickle.SHORT_BINSTRING: lambda self: self._push(self._take(self._number("<B")).decode()),
        pickle.EMPTY_TUPLE: lambda self: self._push(()),
        pickle.EMPTY_LIST: lambda self: self._push([]),
        pickle.EMPTY_DICT: lambda self: self._push({}),
        pickle.EMPTY_SET: lambda self: self._push(None),
        pickle.TUPLE: lambda self: self._push(tuple(self._pop_marked())),
        pickle.TUPLE1: lambda self: self._tuple(1),
        pickle.TUPLE2: lambda self: self._tuple(2),
        pickle.TUPLE3: lambda self: self._tuple(3),
        pickle.APPEND: lambda self: self._extend([self._stack.pop()]),
        pickle.APPENDS: lambda self: self._extend(self._pop_marked()),
        pickle.SETITEM: lambda self: self._set_items([self._stack.pop(-2), self._stack.pop()]),
        pickle.SETITEMS: lambda self: self._set_items(self._pop_marked()),
        pickle.BINPUT: lambda self: self._memo.__setitem__(self._number("<B"), self._stack[-1]),
        pickle.LONG_BINPUT: lambda self: self._memo.__setitem__(
            self._number("<I"), self._stack[-1]
        ),
        pickle.BINGET: lambda self: self._push(self._memo[self._number("<B")]),
        pickle.LONG_BINGET: lambda self: self._push(self._memo[self._number("<I")]),
        pickle.GLOBAL: _global,
        pickle.BINPERSID: _persistent,
        pickle.REDUCE: _reduce,
        pickle.NEWOBJ: _make_object,
        pickle.BUILD: _drop_state,
    }
