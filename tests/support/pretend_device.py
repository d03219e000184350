"""A device that is not there: tensors on the CPU that say they are elsewhere.

What the real ones refuse is refused: to mix tensors of different devices, float64 where the device
has none, and operators that it does not know. Every operator that runs there is noted.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from swinir_core import SwinIR

CPU = torch.device("cpu")
GIB = 2**30
DEVICES = ("mps", "xpu", "privateuseone")
"""Apple's and Intel's; DirectML's name for whatever it finds."""

LACKED_BY_MPS = frozenset({"index_copy", "index_copy_", "cummax", "_cummax_helper"})
"""Of what was once used here, by the table of operators of torch 2.6."""

aten = torch.ops.aten
_CROSSING = {aten.copy_, aten._to_copy}
"""Operators that take tensors of both devices."""


class Elsewhere(torch.Tensor):
    """A tensor on the device; ``inner`` holds its numbers."""

    inner: torch.Tensor
    home: PretendDevice

    @staticmethod
    def __new__(cls, inner: torch.Tensor, home: PretendDevice) -> Elsewhere:
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            # What torch itself takes it for: of others it would look for a driver.
            device=torch.device("meta"),
        )
        tensor.inner, tensor.home = inner, home
        return tensor

    @property
    def device(self) -> torch.device:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.home.device

    @property
    def is_meta(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return False

    def new_tensor(self, values: Any, **_: Any) -> torch.Tensor:
        return torch.tensor(values, dtype=self.dtype, device=self.device)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        homes = [leaf.home for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Elsewhere)]
        return homes[0].run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"Elsewhere({self.inner}, {self.home.device})"


class PretendDevice(TorchDispatchMode):
    """While it is entered, ``device`` exists."""

    def __init__(
        self, kind: str, lacks: frozenset[str] = frozenset(), float64: bool = True
    ) -> None:
        super().__init__()
        self.device = torch.device(kind, 0)
        self.lacks = lacks
        self.float64 = float64
        self.operators: set[str] = set()

    def __enter__(self) -> PretendDevice:
        # Else torch.tensor would put its numbers on a device past this mode.
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        leaves = tree_leaves((args, kwargs))
        here = [leaf for leaf in leaves if isinstance(leaf, Elsewhere)]
        named = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
        there = named[0].type in (self.device.type, "meta") if named else bool(here)
        if (here or there) and func.overloadpacket not in _CROSSING:
            self._check(func, leaves)
        inner_args, inner_kwargs = tree_map(self._inner, (args, kwargs))
        result = func(*inner_args, **inner_kwargs)
        if func is aten.copy_.default:
            return args[0]
        if not there:
            return result.clone() if here and result is inner_args[0] else result
        known = {id(tensor.inner): tensor for tensor in here}
        return tree_map(lambda r: known[id(r)] if id(r) in known else self._put(r), result)

    def _check(self, func: Any, leaves: list[Any]) -> None:
        name = func.name().removeprefix("aten::")
        self.operators.add(name)
        if name.partition(".")[0] in self.lacks:
            raise NotImplementedError(
                f"The operator 'aten::{name}' is not currently implemented for {self.device}."
            )
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor) and not isinstance(leaf, Elsewhere) and leaf.ndim:
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two "
                    f"devices, {self.device} and cpu! ({name})"
                )

    def _inner(self, value: Any) -> Any:
        if isinstance(value, torch.device):
            return CPU
        return value.inner if isinstance(value, Elsewhere) else value

    def _put(self, result: Any) -> Any:
        if not isinstance(result, torch.Tensor):
            return result
        if result.dtype == torch.float64 and not self.float64:
            raise TypeError(f"{self.device.type} does not support float64.")
        return Elsewhere(result, self)


def pretended(kind: str) -> PretendDevice:
    lacks = LACKED_BY_MPS if kind == "mps" else frozenset()
    return PretendDevice(kind, lacks, float64=kind == "xpu")


def moved(model: SwinIR, device: torch.device, dtype: torch.dtype = torch.float32) -> SwinIR:
    copy = SwinIR(model.config, device=device, dtype=dtype)
    copy.load_state_dict(model.state_dict())
    return copy.eval().requires_grad_(False)
