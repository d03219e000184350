"""Threads of a CPU that own their work: windows, strips or tiles, one thread of arithmetic each.

Where threads share every operator, each operator waits for the slowest of them, and on a busy
machine that is one which the system has put aside. Parts of the work that need nothing of each
other wait once, at the end of all.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from functools import cache, partial
from queue import SimpleQueue
from threading import Barrier, RLock
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

Part = TypeVar("Part")


def share(
    work: Callable[[Part], object], parts: Iterable[Part], done: Callable[[Part], object]
) -> None:
    """Do ``work`` on every part, by as many threads as PyTorch computes with here.

    None may need what another makes. One part alone is worked on here, by all threads.

    Args:
        work: Called by several threads at once, in which PyTorch has one thread each. Gradient and
            inference mode, autocast and dispatch modes are those of the caller.
        parts: What to work on, taken in this order.
        done: Called here after each part, in the order in which they end.

    Raises what ``work`` or ``done`` raise, once no thread works any more; parts may be left over.
    """
    waiting = deque(parts)
    count, threads = len(waiting), torch.get_num_threads()
    if min(count, threads) < 2:
        for part in waiting:
            work(part)
            done(part)
        return
    as_here = _modes_of_caller()
    to_do_here: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def take_parts() -> None:
        with as_here():
            while waiting:
                try:
                    part = waiting.popleft()
                except IndexError:  # Another thread has taken the last.
                    return
                work(part)
                to_do_here.put(partial(done, part))

    def begin() -> Future[None]:
        thread = workers.submit(take_parts)
        thread.add_done_callback(lambda thread: to_do_here.put(thread.result))
        return thread

    workers = _workers(threads)
    taking = [begin() for _ in range(min(threads, count))]
    try:
        for _ in range(count + len(taking)):
            to_do_here.get()()
    finally:
        waiting.clear()
        wait(taking)
        # Or an error would be held by what its own frames hold, and with it all the parts, perhaps
        # of an image of gigabytes, until garbage is collected.
        taking.clear()
        while not to_do_here.empty():
            to_do_here.get()


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """Threads in which PyTorch computes with one thread; the caller keeps its number of them."""
    begun = Barrier(threads + 1)

    def begin() -> None:
        torch.get_num_threads()  # Or the first operator sets the number of the process.
        torch.set_num_threads(1)
        begun.wait()

    workers = ThreadPoolExecutor(threads, "swinir")
    for _ in range(threads):
        workers.submit(begin)
    begun.wait()
    # Every thread has a number of its own; those to come take the last one that was set.
    torch.set_num_threads(threads)
    return workers


if hasattr(os, "register_at_fork"):  # A forked process has the pools and none of their threads.
    os.register_at_fork(after_in_child=_workers.cache_clear)


def _modes_of_caller() -> Callable[[], ExitStack]:
    """Note the modes that PyTorch keeps for each thread; returns what enters them in another."""
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    autocast, narrow = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
    counters, one_at_a_time = _get_current_dispatch_mode_stack(), RLock()

    def enter() -> ExitStack:
        modes = ExitStack()
        modes.enter_context(torch.inference_mode(inference))
        modes.enter_context(torch.set_grad_enabled(gradients))
        modes.enter_context(torch.autocast("cpu", narrow, autocast))
        for counter in counters:
            modes.enter_context(_Elsewhere(counter, one_at_a_time))
        return modes

    return enter


class _Elsewhere(TorchDispatchMode):
    """A dispatch mode of another thread, such as a counter, which sees one operator at a time."""

    def __init__(self, mode: TorchDispatchMode, one_at_a_time: RLock) -> None:
        super().__init__()
        self.mode, self.one_at_a_time = mode, one_at_a_time

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        with self.one_at_a_time:
            return self.mode.__torch_dispatch__(func, types, args, kwargs or {})
