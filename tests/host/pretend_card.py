"""A graphics card that is not there: CPU tensors said to be on ``cuda:0``, in counted memory.

Installed before the host is imported, it makes the host's own memory management and patchers do
what they do on a card: load, offload, evict, stream. Tensors of different devices do not mix, more
than ``total`` bytes do not fit, and what is alive can be asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
CAPABILITY = (7, 5)
"""Older than our Triton kernel asks for, which only a real card could run."""

aten = torch.ops.aten
_CROSSING = {aten.copy_, aten._to_copy, aten.to, aten.index, aten.index_put_}
"""Operations that take tensors of both devices: copies, and indices from the CPU."""


class Stream:
    """A queue of work on the card, where everything is done at once."""

    cuda_stream = 0

    def __init__(self, **_: Any) -> None: ...

    def wait_stream(self, other: Stream) -> None: ...

    def synchronize(self) -> None: ...


class OnCard(torch.Tensor):
    """A tensor on the card; ``inner`` holds its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnCard:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=CUDA,
        )
        tensor.inner = inner
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return card.run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"OnCard({self.inner})"


class Card(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.total = 8 * 2**30
        self.peak = 0
        self.before_allocation: Callable[[], None] = lambda: None
        self.taken_elsewhere: Callable[[], int] = lambda: 0
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def install(self) -> None:
        """Let torch report the card, and let everything from now on run through it."""
        torch._C._ensureCUDADeviceGuardSet()
        properties = SimpleNamespace(
            name="pretend", major=CAPABILITY[0], minor=CAPABILITY[1], total_memory=self.total
        )
        replacements = {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_name": lambda device=None: "pretend",
            "get_device_properties": lambda device=None: properties,
            "get_device_capability": lambda device=None: CAPABILITY,
            "is_bf16_supported": lambda *_: False,
            "get_allocator_backend": lambda: "native",
            "mem_get_info": lambda device=None: (self.total - self.used, self.total),
            "memory_stats": lambda device=None: {
                "active_bytes.all.current": self.used,
                "reserved_bytes.all.current": self.used,
            },
            "memory_allocated": lambda device=None: self.used,
            "max_memory_allocated": lambda device=None: self.peak,
            "reset_peak_memory_stats": lambda device=None: setattr(self, "peak", self.used),
            "empty_cache": lambda: None,
            "ipc_collect": lambda: None,
            "synchronize": lambda device=None: None,
            "set_device": lambda device: None,
            "current_stream": lambda device=None: Stream(),
            "Stream": Stream,
            "stream": lambda stream: nullcontext(),
            "cudart": lambda: SimpleNamespace(
                cudaHostRegister=lambda *_: 0, cudaHostUnregister=lambda *_: 0
            ),
        }
        for name, replacement in replacements.items():
            setattr(torch.cuda, name, replacement)
        torch.__future__.set_swap_module_params_on_conversion(True)
        data: Any = torch.Tensor.data
        moving = property(data.__get__, lambda own, new: _set_data(data, own, new))
        torch.nn.Parameter.data = moving  # type: ignore
        torch._C._set_only_lift_cpu_tensors(True)
        self.__enter__()

    @property
    def used(self) -> int:
        """Bytes of all tensors that are alive on the card."""
        for key, (reference, _) in list(self._storages.items()):
            if reference.expired():
                del self._storages[key]
        return sum(size for _, size in self._storages.values()) + self.taken_elsewhere()

    def uncounted(self, size: int) -> OnCard:
        """``size`` bytes that somebody else counts, and frees whoever still looks at them."""
        inner = torch.empty(size, dtype=torch.uint8)
        storage = inner.untyped_storage()
        self._storages[storage._cdata] = (StorageWeakRef(storage), 0)
        return OnCard(inner)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        if func is aten._has_compatible_shallow_copy_type.default:
            return isinstance(args[0], OnCard) == isinstance(args[1], OnCard)
        leaves = tree_leaves((args, kwargs))
        on_card = [leaf for leaf in leaves if isinstance(leaf, OnCard)]
        if on_card and func.overloadpacket not in _CROSSING:
            others = [
                a for a in leaves if isinstance(a, torch.Tensor) and not isinstance(a, OnCard)
            ]
            if any(other.ndim > 0 for other in others):
                raise RuntimeError(
                    f"Expected all tensors to be on the same device, but found at least two "
                    f"devices, cuda:0 and cpu! ({func})"
                )
        named = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
        like = args[1:2] if func is aten.to.other else on_card
        target = named[0] if named else CUDA if any(isinstance(a, OnCard) for a in like) else CPU
        inner_args, inner_kwargs = tree_map(_inner, (args, kwargs))
        inner_kwargs.pop("pin_memory", None)
        result = func(*inner_args, **inner_kwargs)
        if func is aten.copy_.default:
            return args[0]
        if target.type != "cuda":
            return result.clone() if on_card and result is inner_args[0] else result
        known = {id(tensor.inner): tensor for tensor in on_card}
        if func.overloadpacket is aten.to and not known and result is inner_args[0]:
            result = result.clone()
        return tree_map(lambda r: known[id(r)] if id(r) in known else self._put(r), result)

    def _put(self, result: Any) -> Any:
        if not isinstance(result, torch.Tensor):
            return result
        storage = result.untyped_storage()
        key = storage._cdata
        if key not in self._storages or self._storages[key][0].expired():
            self.before_allocation()
            self._storages[key] = (StorageWeakRef(storage), storage.nbytes())
            used = self.used
            if used > self.total:
                del self._storages[key]
                raise torch.cuda.OutOfMemoryError(
                    f"CUDA out of memory. Tried to allocate {storage.nbytes()} bytes."
                )
            self.peak = max(self.peak, used)
        with torch.inference_mode(False):
            return OnCard(result)


def _inner(value: Any) -> Any:
    if isinstance(value, torch.device):
        return CPU
    return value.inner if isinstance(value, OnCard) else value


def _set_data(data: Any, parameter: torch.Tensor, new: torch.Tensor) -> None:
    """``parameter.data = new``, also where they are on different devices."""
    if isinstance(parameter, OnCard) == isinstance(new, OnCard):
        data.__set__(parameter, new)
    else:
        torch.utils.swap_tensors(parameter, torch.nn.Parameter(new, parameter.requires_grad))


card = Card()
