"""GPU kernels in Triton, each beside a plain path that gives the same result.

Importing this package imports no Triton; the modules with kernels do. Whether one works on this
machine is found out by running it: Triton comes with some builds of torch only, compiles for some
devices only, and needs a C compiler.
"""

from __future__ import annotations

import importlib.util
import logging
import textwrap
from typing import TypeAlias

import torch

_logger = logging.getLogger(__name__)

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_LOWEST_CAPABILITY = (8, 0)
"""Below, Triton 3.6 multiplies matrices without tensor cores and spills registers."""

_LARGEST_WINDOW = 16
_LARGEST_HEAD_DIM = 64

_Case: TypeAlias = tuple[torch.device, torch.dtype, int, int]
"""Device, type of the arithmetic, side of a window and channels of a head."""

_works: dict[_Case, bool] = {}
"""Results of the self check, by case."""

_reasons_given: set[str] = set()


def may_be_used(device: torch.device, dtype: torch.dtype, size: int, head_dim: int) -> bool:
    """Tell whether the kernel suits a case and has not failed in it yet; compiles and runs nothing.

    It suits CUDA devices (NVIDIA of compute capability 8.0 or later, or ROCm) where Triton is
    installed, float16, bfloat16 and float32, windows up to 16 and head dimensions up to 64.
    """
    if device.type != "cuda" or dtype not in _DTYPES:
        return False
    if size > _LARGEST_WINDOW or head_dim > _LARGEST_HEAD_DIM:
        return False
    if torch.cuda.get_device_capability(device) < _LOWEST_CAPABILITY:
        return False
    return _finds_triton() and _works.get((device, dtype, size, head_dim), True)


def usable(device: torch.device, dtype: torch.dtype, size: int, head_dim: int) -> bool:
    """Tell whether ``window_attention.window_attention_`` is to be used for windows of side
    ``size``.

    It is where ``may_be_used`` says so and it agrees with plain torch on a tiny feature map. The
    first call for a case compiles and compares; why that failed is logged, each reason once. Raises
    what says that memory is full, and the next call tries again.
    """
    if not may_be_used(device, dtype, size, head_dim):
        return False
    case = (device, dtype, size, head_dim)
    if case not in _works:
        _works[case] = _passes_self_check(case)
    return _works[case]


def _finds_triton() -> bool:
    try:
        return importlib.util.find_spec("triton") is not None
    except Exception:  # The self check fails for the same reason, and logs it.
        return True


def _passes_self_check(case: _Case) -> bool:
    try:
        from .triton_check import check

        check(*case)
    except Exception as error:  # A missing compiler, an unknown device, a driver too old...
        if "out of memory" in str(error):  # Of a device that is full now, not of one that cannot.
            raise
        reason = f"{type(error).__name__}: {textwrap.shorten(str(error), 300)}"
        if reason not in _reasons_given:
            _reasons_given.add(reason)
            device, dtype, size, head_dim = case
            _logger.info(
                "Window attention takes the plain path, because its Triton kernel failed on %s "
                "(%s, window %d, head dimension %d): %s",
                *(device, dtype, size, head_dim, reason),
            )
        return False
    return True
