"""The bytes of tensors alive at once; ``tracemalloc`` does not see torch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """While active, ``peak`` is the largest growth in bytes of all storages made by operators.

    Scratch space inside single operators is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.current = 0
        self.peak = 0
        self._seen: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        given = {_key(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and _key(tensor) not in given:
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self.current += size
        self.peak = max(self.peak, self.current)

        def freed(_: Any) -> None:
            self.current -= size
            self._seen.pop(key, None)

        self._seen[key] = weakref.ref(storage, freed)


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def count_memory(run: Callable[[], Tensor], device: torch.device) -> tuple[int, Tensor]:
    """Peak growth in bytes during ``run()`` on ``device``, and its result, which is part of them.

    On CUDA by the allocator's own statistics, elsewhere counted by ``PeakMemory``.
    """
    if device.type != "cuda":
        with PeakMemory() as memory:
            output = run()
        return memory.peak, output
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    output = run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before, output
