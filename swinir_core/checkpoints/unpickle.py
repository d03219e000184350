"""Pickles of ``torch.save``, read as data: nothing named in them is ever looked up or called.

``torch.load(weights_only=True)`` runs no foreign code either, yet a file of 250 bytes can make it
take gigabytes (``bytearray(2 * 10**9)``) or hash a nested tuple for hours. Here a pickle of bounded
size becomes dictionaries, lists and numbers, and a tensor the place of its numbers in the file.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from .limits import MOST_ARGUMENTS, MOST_PAIRS

_DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "UntypedStorage": torch.uint8,
    # Of quantised tensors only the size of the numbers is needed, to find what follows them.
    "QInt8Storage": torch.int8,
    "QUInt8Storage": torch.uint8,
    "QUInt4x2Storage": torch.uint8,
    "QUInt2x4Storage": torch.uint8,
    "QInt32Storage": torch.int32,
}
_REBUILD = "torch._utils._rebuild_"
# What lies beside weights in training checkpoints and means nothing here. As in torch.load,
# everything else is refused, so that a file either loads everywhere or nowhere.
_HARMLESS = {
    "collections.Counter",
    "builtins.set",
    "builtins.complex",
    "builtins.bytearray",
    "_codecs.encode",
    "torch.device",
    "torch.serialization._get_layout",
    "numpy.dtype",
    "numpy.ndarray",
    "numpy.core.multiarray.scalar",  # A best score, in many training checkpoints.
}


class ForeignObjectError(ValueError):
    """A pickle asks for an object that is no part of a state dict; the message is its name."""


class UnsupportedTensor:
    """A tensor that is sparse, quantised, nested, without values or of an exotic type."""


class Array:
    """A NumPy array, whose numbers are not read."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Numbers of one type that tensors may have in common."""

    key: str
    dtype: torch.dtype
    numel: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Place of a tensor in a file. Offset, shape and stride are claims, in numbers, not checked."""

    storage: Storage
    offset: Any
    shape: Any
    stride: Any


def is_size(value: Any) -> bool:
    """Tell whether ``value`` is a whole number that torch takes for a size."""
    return type(value) is int and 0 <= value < 2**63


def _under_names(pairs: Iterable[tuple[Any, Any]]) -> dict[str, Any]:
    """Make a dictionary of the pairs whose key is text.

    Other keys are of no use here, and a hostile one (a nested tuple) takes for ever to hash.
    """
    return {key: value for key, value in pairs if isinstance(key, str)}


def _call(function: Callable[..., Any], arguments: Any) -> Any:
    """Call what ``Unpickler.find_class`` returned; nothing else in a pickle can be called."""
    if len(arguments) > MOST_ARGUMENTS:
        raise ValueError("too many arguments")
    return function(*arguments)


class Unpickler(pickle._Unpickler):
    """Reads one pickle as plain values, of protocol 2 to 5 as ``torch.save`` writes them.

    The interpreter is the one in Python of the standard library. It knows only the operations in
    ``dispatch``, and those that would import, call, hash or allocate what a file asks for are
    replaced. ``load`` reads no further than to the end of the pickle.
    """

    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: Any) -> None:
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, Storage] = {}
        """By key."""
        self._pairs = 0

    def find_class(self, module: str, name: str, /) -> Any:
        """Replace what is named by the type of a storage or by a function without any effect.

        Raises ``ForeignObjectError`` for what is no part of a state dict.
        """
        full_name = f"{module}.{name}".replace("__builtin__.", "builtins.")
        full_name = full_name.replace("numpy._core.", "numpy.core.")  # Its name from version 2 on.
        of_torch = module in ("torch", "torch.cuda", "torch.sparse", "torch.storage")
        if of_torch and name in _DTYPES:
            return _DTYPES[name]
        match full_name.removeprefix(_REBUILD):
            case "tensor" | "tensor_v2":
                return lambda *arguments: StoredTensor(*arguments[:4])
            # The last is how PyTorch wrote parameters before 0.4, when VGG19 was published.
            case (
                "parameter" | "parameter_with_state" | "torch.Size" | "torch.nn.parameter.Parameter"
            ):
                return lambda value, *_: value
            case "torch._tensor._rebuild_from_type_v2":
                return lambda function, _, arguments, *__: _call(function, arguments)
            case "numpy.core.multiarray._reconstruct" | "numpy.core.numeric._frombuffer":
                return lambda *_: Array()
            case "collections.OrderedDict":
                return self._ordered_dict
        if full_name.startswith(_REBUILD):
            return lambda *_: UnsupportedTensor()
        is_type = isinstance(vars(torch).get(name), (torch.dtype, torch.qscheme))
        is_type = is_type or name.endswith(("Storage", "Tensor"))
        if full_name in _HARMLESS or (of_torch and is_type):
            return lambda *_: None
        raise ForeignObjectError(full_name)

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that a tensor names by its key. Views of storages, as only the first versions
        of torch wrote, are refused."""
        kind, dtype, key, _, numel, *view = pid[:6]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or any(view):
            raise ValueError("no storage")
        if not isinstance(key, str) or not is_size(numel):
            raise ValueError("a storage of impossible size")
        return self.storages.setdefault(key, Storage(key, dtype, numel))

    def _ordered_dict(self, pairs: Any = ()) -> dict[str, Any]:
        self._pairs += len(pairs)
        if self._pairs > MOST_PAIRS:
            raise ValueError("too many pairs")
        return _under_names(pairs)

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.append(_call(function, arguments))

    def _update(self, items: list[Any]) -> None:
        self.stack[-1].update(_under_names(zip(items[::2], items[1::2], strict=True)))

    _KEPT = (
        "PROTO STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
        "SHORT_BINSTRING SHORT_BINBYTES BINBYTES SHORT_BINUNICODE BINUNICODE "
        "EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT "
        "BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL BINPERSID"
    )
    dispatch: ClassVar[dict[int, Any]] = {
        pickle.FRAME[0]: lambda self: self.read(8),  # Only a hint of how much to read ahead.
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _reduce,
        pickle.BUILD[0]: lambda self: self.stack.pop(),
        pickle.SETITEM[0]: lambda self: self._update([self.stack.pop(-2), self.stack.pop()]),
        pickle.SETITEMS[0]: lambda self: self._update(self.pop_mark()),
        pickle.EMPTY_SET[0]: lambda self: self.append(None),
        pickle.ADDITEMS[0]: lambda self: self.pop_mark(),
        pickle.BYTEARRAY8[0]: pickle._Unpickler.dispatch[pickle.BINBYTES8[0]],
    }
    for _name in _KEPT.split():
        _code = getattr(pickle, _name)[0]
        dispatch[_code] = pickle._Unpickler.dispatch[_code]
