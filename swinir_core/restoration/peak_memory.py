"""Memory of a run, counted operator by operator."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass
class Convolution:
    """Bytes at the end of a convolution."""

    alive: int
    """Of all tensors, its input and output among them."""

    given: int
    made: int
    products: int
    """Products of numbers that it takes."""


class PeakMemory(TorchDispatchMode):
    """Counter of the bytes of tensors alive at once, which ``tracemalloc`` does not see.

    While active, ``peak`` is the largest growth in bytes of all storages made by operators, without
    scratch space inside single operators.
    """

    def __init__(self) -> None:
        super().__init__()
        self.current = 0
        self.peak = 0
        self.at_peak: list[int] = []
        """Bytes of each storage that was alive at the peak."""

        self.convolutions: dict[tuple[int, ...], Convolution] = {}
        """By the shape of its weights: the one at which most was alive."""

        self._alive: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        given = {_key(t) for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and _key(tensor) not in given:
                self._count(tensor.untyped_storage())
        # There are several of this signature, and others of the name, such as those of gradients.
        if "conv" in str(func) and all(isinstance(it, Tensor) for it in (*args[:2], result)):
            self._note(args[0], args[1], result)
        return result

    def _note(self, given: Tensor, weight: Tensor, made: Tensor) -> None:
        known = self.convolutions.get(tuple(weight.shape))
        if known is None or self.current > known.alive:
            products = weight.numel() * made[:, 0].numel()
            self.convolutions[tuple(weight.shape)] = Convolution(
                self.current, given.nbytes, made.nbytes, products
            )

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._alive:
            self._alive[storage._cdata] = storage.nbytes()
            self.current += storage.nbytes()
            if self.current > self.peak:
                self.peak, self.at_peak = self.current, [*self._alive.values()]
            weakref.finalize(storage, self._freed, storage._cdata)

    def _freed(self, key: int) -> None:
        self.current -= self._alive.pop(key)


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def count_memory(
    run: Callable[[], Tensor], device: torch.device, counter: PeakMemory | None = None
) -> tuple[int, Tensor]:
    """Peak growth in bytes during ``run()`` on ``device``, the result included; and the result.

    On CUDA by the allocator's own statistics, elsewhere counted by a ``PeakMemory``.
    """
    if device.type != "cuda":
        with counter or PeakMemory() as memory:
            output = run()
        return memory.peak, output
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    output = run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before, output
