"""Memory of devices: how much is free, giving it back, and errors that say it ran out; and the end
of the processes that share them."""

from __future__ import annotations

import atexit
import ctypes
from contextlib import suppress

import psutil
import torch
import torch.distributed as dist

_OUT_OF_MEMORY = (
    *("out of memory", "can't allocate memory", "not enough memory", "could not create a memory"),
    *("BLAS_STATUS_ALLOC_FAILED", "rocblas_status_memory_error"),  # NVIDIA's and AMD's
    "Invalid buffer size",  # Apple's, for more than one buffer may hold
    *("OUT_OF_DEVICE_MEMORY", "OUT_OF_HOST_MEMORY", "OUT_OF_RESOURCES"),  # Intel's
    "not enough GPU video memory",  # DirectML's
)


def free_memory(device: torch.device) -> int:
    """Return the bytes that a run may take on ``device`` now without pushing anything else out.

    A device that does not tell, such as those of DirectML, counts as having what the machine has.
    """
    if device.type in ("cuda", "xpu"):
        backend = getattr(torch, device.type)
        allocated = backend.memory_allocated(device)
        try:
            free, _ = backend.mem_get_info(device)
        except RuntimeError:  # Some of Intel's know only how much they have in all.
            return backend.get_device_properties(device).total_memory - allocated
        return free + backend.memory_reserved(device) - allocated
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return psutil.virtual_memory().available


def release_cached_memory(device: torch.device) -> None:
    """Give back what the allocator of a GPU keeps for tensors of the size that did not fit."""
    if device.type in ("cuda", "mps", "xpu"):
        getattr(torch, device.type).empty_cache()


def trim_heaps() -> None:
    """Give what the heaps of ended threads keep back to the system, where it is glibc's."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether ``error`` says that memory ran out: of a GPU of any make, or of the CPU."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def leave_processes_at_exit() -> None:
    """Leave the process group when Python ends, if this process is in one.

    The threads of gloo must end before the interpreter takes away what they use; otherwise a run
    that has finished now and then aborts.
    """
    atexit.register(_leave_processes)


def _leave_processes() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
