"""Threads of a CPU that own their work: windows, strips or tiles.

Where threads share every operator, each operator waits for the slowest of them, and on a busy
machine that is one which the system has put aside. Parts of the work that need nothing of each
other wait once, at the end of all.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache, partial
from queue import SimpleQueue
from threading import Barrier, Event, RLock
from time import monotonic
from typing import Any, TypeAlias, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

Part = TypeVar("Part")

_Tell: TypeAlias = Callable[[float], None]
"""Called with the part of a call that is done, 0 to 1; ends the call by what it raises."""

_ToCaller: TypeAlias = Callable[[Callable[[], object]], object]
"""Has the thread that shares its work call a function, without waiting for it; ends the work on a
part where all of it is to end."""

_SECONDS_BETWEEN_REPORTS = 0.05
"""Of one call: each report wakes the thread that hears it."""


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
    _share(lambda part, _: work(part), parts, done, _kept_workers)


def share_calls(calls: Sequence[Callable[[_Tell], object]], report: _Tell) -> None:
    """Make long calls side by side, which divide the threads that PyTorch computes with here.

    Args:
        calls: Called by several threads at once, in the modes of the caller. Each reports how far
            it is, and lets pass what that raises.
        report: Called here with the part of all calls that is done. What it raises ends them.

    Raises what a call or ``report`` raises, once no call goes on.
    """
    reached = [0.0] * len(calls)

    def reach(number: int, part: float) -> None:
        reached[number] = part
        report(sum(reached) / len(calls))

    def make(number: int, to_caller: _ToCaller) -> None:
        due = monotonic()

        def tell(part: float) -> None:
            nonlocal due
            if monotonic() >= due:
                due = monotonic() + _SECONDS_BETWEEN_REPORTS
                to_caller(partial(reach, number, part))

        calls[number](tell)

    def begin_workers(threads: int) -> ThreadPoolExecutor:
        # Not those that are kept, for which others may wait, and whose heaps would stay large.
        count = min(len(calls), threads)
        return _begin_workers(count, threads // count, threads)

    _share(make, range(len(calls)), lambda number: reach(number, 1), begin_workers)


def _share(
    work: Callable[[Part, _ToCaller], object],
    parts: Iterable[Part],
    done: Callable[[Part], object],
    begin_workers: Callable[[int], AbstractContextManager[ThreadPoolExecutor]],
) -> None:
    """Do ``work`` on every part, by the workers that ``begin_workers`` returns for the caller's
    number of threads; the work may have the caller do something before a part is done."""
    waiting = deque(parts)
    threads = torch.get_num_threads()
    count = min(len(waiting), threads)
    if count < 2:
        for part in waiting:
            work(part, lambda call: call())
            done(part)
        return
    as_here, ended = _modes_of_caller(), Event()
    # What is to be called here; None where a worker has ended.
    told: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

    def to_caller(call: Callable[[], object]) -> None:
        if ended.is_set():
            raise _Ended
        told.put(call)

    def take_parts() -> None:
        with as_here():
            while waiting:
                try:
                    part = waiting.popleft()
                except IndexError:  # Another thread has taken the last.
                    return
                work(part, to_caller)
                told.put(partial(done, part))

    at_work: list[Future[None]] = []
    call = worker = None
    with begin_workers(threads) as workers:
        try:
            for _ in range(count):
                at_work.append(workers.submit(take_parts))
                at_work[-1].add_done_callback(lambda _: told.put(None))
            left = count
            while left:
                if call := told.get():
                    call()
                    continue
                left -= 1
                for worker in at_work:
                    if worker.done():
                        worker.result()
        finally:
            ended.set()
            waiting.clear()
            # Whatever has been heard of them: Ctrl-C may come between any two lines above.
            wait(at_work)
            # Nothing may be left that holds an error, whose frames hold all the parts, perhaps of
            # an image of gigabytes, or these would stay until garbage is collected.
            at_work.clear()
            call = worker = None
            while not told.empty():
                told.get()


class _Ended(BaseException):
    """Ends the work on a part whose result nobody waits for."""


@cache
def _kept_workers(threads: int) -> AbstractContextManager[ThreadPoolExecutor]:
    return nullcontext(_begin_workers(threads, 1, threads))


def _begin_workers(count: int, each: int, threads: int) -> ThreadPoolExecutor:
    """Threads in which PyTorch computes with ``each`` threads; the caller's number of them stays
    ``threads``."""
    begun = Barrier(count + 1)

    def begin() -> None:
        torch.get_num_threads()  # Or the first operator sets the number of the process.
        torch.set_num_threads(each)
        begun.wait()

    workers = ThreadPoolExecutor(count, "swinir")
    try:
        for _ in range(count):
            workers.submit(begin)
        begun.wait()
    except BaseException:  # No thread can be started, or Ctrl-C: those that wait need not.
        begun.abort()
        workers.shutdown(wait=False, cancel_futures=True)
        raise
    finally:
        # Every thread has a number of its own; those to come take the last one that was set.
        torch.set_num_threads(threads)
    return workers


if hasattr(os, "register_at_fork"):  # A forked process has the pools and none of their threads.
    os.register_at_fork(after_in_child=_kept_workers.cache_clear)


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
