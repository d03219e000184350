"""GPU kernels in Triton, each beside a plain path that gives the same result.

Importing this package imports no Triton; the modules with kernels do. Whether one works on this
machine is found out by running it: Triton comes with some builds of torch only, compiles for some
devices only, and needs a C compiler.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import textwrap

import torch

_logger = logging.getLogger(__name__)

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_LOWEST_CAPABILITY = (8, 0)
"""Below, Triton 3.6 multiplies matrices without tensor cores and spills registers."""

_LARGEST_WINDOW = 16
_LARGEST_HEAD_DIM = 64

_reasons_given: set[str] = set()


@functools.cache
def usable(device: torch.device, dtype: torch.dtype, size: int, head_dim: int) -> bool:
    """Whether ``window_attention.window_attention_`` is to be used for windows of side ``size``.

    It is on a CUDA device (NVIDIA of compute capability 8.0 or later, or ROCm) where Triton is
    installed, for float16, bfloat16 and float32, windows up to 16 and head dimensions up to 64,
    if it agrees there with plain torch on a tiny feature map. The first call for each combination
    compiles and compares; why that failed is logged, each reason once.
    """
    if device.type != "cuda" or dtype not in _DTYPES:
        return False
    if size > _LARGEST_WINDOW or head_dim > _LARGEST_HEAD_DIM:
        return False
    if torch.cuda.get_device_capability(device) < _LOWEST_CAPABILITY:
        return False
    try:
        if importlib.util.find_spec("triton") is None:
            return False
        from .self_check import check

        check(device, dtype, size, head_dim)
    except Exception as error:  # A missing compiler, an unknown device, a driver too old...
        reason = f"{type(error).__name__}: {textwrap.shorten(str(error), 300)}"
        if reason not in _reasons_given:
            _reasons_given.add(reason)
            _logger.info(
                "Window attention takes the plain path, because its Triton kernel failed on %s "
                "(%s, window %d, head dimension %d): %s",
                *(device, dtype, size, head_dim, reason),
            )
        return False
    return True
