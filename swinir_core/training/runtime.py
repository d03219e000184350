"""The machine of a training run: processes, precision, memory, signals."""

import contextlib
import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import parse_choice_from_env

from ..devices import leave_processes_at_exit

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_BELOW = 2**30

_ACCELERATE_NAMES = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def make_accelerator(device: str, precision: str) -> Accelerator:
    """Join the processes that ``accelerate launch`` or ``torchrun`` started, if any.

    Args:
        device: ``auto``, the launcher's choice or the best there is, or ``cpu``.
        precision: of the forward pass; weights, their average and the optimizer's state are always
            float32. ``auto`` is what ``accelerate launch --mixed_precision`` asks for; else
            bfloat16 where the device computes in it directly, float32 where it would be emulated.

    Raises:
        ValueError: the device lacks the precision.
    """
    found = PartialState(cpu=device == "cpu").device
    leave_processes_at_exit()
    assert found is not None
    if precision == "auto":
        chosen = parse_choice_from_env("ACCELERATE_MIXED_PRECISION", "no")
        if chosen == "no" and _has_bfloat16(found):
            chosen = "bf16"
    else:
        chosen = _ACCELERATE_NAMES[precision]
    if chosen == "fp16" and found.type != "cuda":
        raise ValueError(f"precision float16: {found.type} trains in float32 or bfloat16.")
    return Accelerator(cpu=device == "cpu", mixed_precision=chosen)


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Private functions, of a later PyTorch than the oldest we allow; there are no public ones.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(
        getattr(torch.cpu, check, lambda: False)() for check in checks
    )


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory. Returns whether it does.

    Every step allocates the same activations again. By default glibc returns those beyond 32 MiB
    to the kernel in between, which must then clear every page again.
    """
    try:
        mallopt: Callable[[int, int], int] = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # not glibc
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_BELOW) & mallopt(_M_TRIM_THRESHOLD, _KEEP_BELOW))


@contextlib.contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C or SIGTERM sets; a second signal acts as it did before."""
    stop = threading.Event()
    previous: dict[int, Any] = {}

    def restore() -> None:
        while previous:
            signal.signal(*previous.popitem())

    def on_signal(*_: Any) -> None:
        stop.set()
        restore()

    if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        restore()
