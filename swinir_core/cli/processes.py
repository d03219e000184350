"""The device of a command, and the processes that divide its images, where ``torchrun`` or
``accelerate launch`` has started several.

Processes exchange file names and scores over gloo, which every build of torch with processes has,
so nothing else need be installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..devices import leave_processes_at_exit
from .options import UsageError

T = TypeVar("T")

_LONGEST_WAIT = timedelta(days=30)
"""A process whose images are done waits for the slowest; gloo would give up after half an hour.
Where a process dies, the launcher ends the others."""


@dataclass(frozen=True)
class Processes:
    """This process among those of one run; by default the only one."""

    index: int = 0
    count: int = 1
    local_index: int = 0
    """Index among the processes of this machine."""

    @property
    def is_main(self) -> bool:
        """True for the process that plans, prints tables and shows progress."""
        return self.index == 0

    def device(self, name: str) -> str:
        """The device of ``--device NAME``; each process takes its own of several GPUs.

        Raises ``UsageError`` where the machine has no such device, or several processes are to use
        one with a number.
        """
        if self.count > 1 and ":" in name:
            raise UsageError(
                f"--device {name}: each process takes a device of its own; leave it out."
            )
        device = find_device(name)
        kind = device.partition(":")[0]
        if self.count == 1 or kind not in ("cuda", "xpu"):
            return device
        return f"{kind}:{self.local_index % getattr(torch, kind).device_count()}"

    def own(self, items: Sequence[T]) -> Sequence[T]:
        """The items for this process: every ``count``-th."""
        return items[self.index :: self.count]

    def agreed(self, compute: Callable[[], T]) -> T:
        """The result of ``compute``, which the main process calls, on every process; not
        ``None``. Its exception is raised on the main process; the others exit."""
        if self.count == 1:
            return compute()
        outcome: list[T | None] = [None]
        try:
            if self.is_main:
                outcome = [compute()]
        finally:
            dist.broadcast_object_list(outcome)
        if outcome[0] is None:
            raise SystemExit(0)
        return outcome[0]

    def gathered(self, value: T) -> list[T]:
        """The ``value`` of every process, by ``index``, on every process; waits for all."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values


def join_processes() -> Processes:
    """Join the processes that a launcher started together with this one, if one did."""
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        return Processes()
    from torch.distributed.distributed_c10d import get_node_local_rank

    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=_LONGEST_WAIT)
        leave_processes_at_exit()
    return Processes(dist.get_rank(), dist.get_world_size(), get_node_local_rank())


def find_device(name: str) -> str:
    """The device of ``--device NAME``; for ``auto`` the best one of this machine.

    Raises ``UsageError`` where the machine has no such device.
    """
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    xpu = [f"xpu:{i}" for i in range(torch.xpu.device_count())]
    mps = ["mps"] if torch.backends.mps.is_available() else []
    present = [*cuda, *xpu, *mps, "cpu"]
    found = [device for device in present if name in ("auto", device, device.partition(":")[0])]
    if not found:
        raise UsageError(f"--device {name}: this machine has only {', '.join(present)}.")
    return found[0]
