"""Several processes, on one machine or more, that share the files of one command.

``torchrun`` starts them, and so does ``accelerate launch``, which calls it. They agree over gloo,
which every build of PyTorch has that has processes at all; what passes between them are file names
and scores, so nothing faster is needed.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

LONGEST_WAIT = timedelta(days=30)
"""A process that has done its share waits for the slowest. Where one dies, the launcher ends the
others, so that nobody waits in vain."""


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this is. By default the only one."""

    index: int = 0
    count: int = 1

    local_index: int = 0
    """The same among those on this machine."""

    @property
    def is_main(self) -> bool:
        return self.index == 0

    def device(self, device: str) -> str:
        """``device``, or this process's own where the machine has several of that kind."""
        kind = device.partition(":")[0]
        if self.count == 1 or kind not in ("cuda", "xpu"):
            return device
        return f"{kind}:{self.local_index % getattr(torch, kind).device_count()}"

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Of what all processes have to do, what this one does: every ``count``-th."""
        return items[self.index :: self.count]

    def agreed(self, compute: Callable[[], T]) -> T:
        """What ``compute`` gives on the main process, on every one.

        What it raises is raised on the main process, and the others leave without a word.
        """
        if self.count == 1:
            return compute()
        outcome: list[Any] = [None, False]
        error = None
        if self.is_main:
            try:
                outcome = [compute(), True]
            except Exception as raised:
                error = raised
        dist.broadcast_object_list(outcome)
        if error is not None:
            raise error
        if not outcome[1]:
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
    """The processes that the launcher started together with this one, if one did."""
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        return Processes()
    from torch.distributed.distributed_c10d import get_node_local_rank

    if not dist.is_initialized():
        dist.init_process_group("gloo", timeout=LONGEST_WAIT)
        # Else its threads may still run when the interpreter takes away what they use.
        atexit.register(_leave)
    return Processes(dist.get_rank(), dist.get_world_size(), get_node_local_rank())


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
