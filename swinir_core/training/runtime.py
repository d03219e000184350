"""What the machine beneath a training run offers: its arithmetic, its allocator, its signals."""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import torch

PRECISIONS = ("auto", "float32", "bfloat16")

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_BELOW = 2**30


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type of the arithmetic; weights, their average and Adam's state are always float32.

    ``auto`` is bfloat16 where the device computes in it directly, float32 where it would be
    emulated. Raises ``ValueError`` for a name outside ``PRECISIONS``.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if precision == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Private and younger than our oldest PyTorch, but there is no public way to ask.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(
        getattr(torch.cpu, check, lambda: False)() for check in checks
    )


def keep_freed_memory() -> bool:
    """Ask glibc to hold on to freed memory. True where it agreed.

    Every step allocates the same activations again. By default glibc returns those beyond 32 MiB
    to the kernel in between, which must then clear every page anew.
    """
    try:
        mallopt: Callable[[int, int], int] = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_BELOW) & mallopt(_M_TRIM_THRESHOLD, _KEEP_BELOW))


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets once; a second signal acts as it did before."""
    stop = threading.Event()
    previous = {}

    def restore() -> None:
        while previous:
            signal.signal(*previous.popitem())

    def on_signal(number: int, frame: FrameType | None) -> None:
        stop.set()
        restore()

    if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        restore()
