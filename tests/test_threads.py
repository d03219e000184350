"""Threads that share work: parts, errors, modes and what they leave behind."""

from __future__ import annotations

import gc
import inspect
import itertools
import multiprocessing
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from swinir_core.restoration.peak_memory import PeakMemory
from swinir_core.threads import _kept_workers, _share, share, share_calls


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_every_part_is_worked_on_once_and_told_here(threads: int, count: int) -> None:
    worked, told, here = [], [], threading.get_ident()
    share(worked.append, range(count), lambda part: told.append((part, threading.get_ident())))
    assert (sorted(worked), sorted(told)) == ([*range(count)], [(i, here) for i in range(count)])


def test_parts_are_worked_on_by_threads_of_one_thread_each(threads: int) -> None:
    together = threading.Barrier(threads, timeout=20)  # Breaks unless all of them wait here.
    found: list[int] = []

    def work(_: int) -> None:
        together.wait()
        found.append(torch.get_num_threads())

    share(work, range(threads), lambda _: None)
    assert found == [1] * threads


class Part:
    """Something large."""


@pytest.mark.parametrize("where", ["work", "done", "nowhere"])
def test_parts_are_let_go_however_it_ends(threads: int, where: str) -> None:
    """Without waiting for garbage to be collected: an image of 12 megapixels takes gigabytes."""
    parts = [Part() for _ in range(20)]
    alive = [weakref.ref(part) for part in parts]

    def fail(wrong: str, _: Part) -> None:
        if where == wrong:
            raise Stop

    gc.collect()
    gc.disable()
    try:
        share(partial(fail, "work"), parts, partial(fail, "done"))
    except Stop:
        pass
    finally:
        parts.clear()
        left = [part for part in alive if part() is not None]
        gc.enable()
    assert left == []


class Stop(BaseException):
    """Neither an error nor an interrupt that anybody expects."""


@pytest.mark.parametrize("error", [ValueError("of work"), KeyboardInterrupt(), Stop()])
@pytest.mark.parametrize("where", ["work", "done"])
def test_what_is_raised_passes_when_nobody_works_any_more(
    threads: int, error: BaseException, where: str
) -> None:
    working, worked = set(), []

    def work(part: int) -> None:
        working.add(part)
        worked.append(part)
        if where == "work" and part == 7:
            working.discard(part)
            raise error
        torch.randn(50, 50) @ torch.randn(50, 50)
        working.discard(part)

    def done(part: int) -> None:
        if where == "done":
            raise error

    with pytest.raises(type(error)) as raised:
        share(work, range(1000), done)
    assert (raised.value, working) == (error, set())
    assert len(worked) < 1000
    share(worked.append, range(10), lambda _: None)  # The threads are there for others.


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_calls_divide_the_threads_and_report_here(threads: int, count: int) -> None:
    told, found = [], []

    def call(report: Callable[[float], None]) -> None:
        found.append(torch.get_num_threads())
        for part in (0.25, 0.5, 1):
            report(part)

    share_calls([call] * count, lambda part: told.append((part, threading.get_ident())))
    assert found == [max(threads // max(count, 1), 1)] * count
    assert told == sorted(told)
    assert told[-1:] == [(1, threading.get_ident())] * bool(count)
    assert {thread for _, thread in told} <= {threading.get_ident()}


@pytest.mark.parametrize("error", [ValueError("of a call"), KeyboardInterrupt(), Stop()])
@pytest.mark.parametrize("where", ["call", "report"])
def test_an_error_ends_calls_that_go_on(threads: int, error: BaseException, where: str) -> None:
    going_on = set()

    def call(number: int, report: Callable[[float], None]) -> None:
        going_on.add(number)
        try:
            while True:  # Until something raises.
                report(0.5)
                if (where == "call" and number == 1) or len(going_on) == 1 == threads:
                    raise error
        finally:
            going_on.discard(number)

    def heard(_: float) -> None:
        if where == "report":
            raise error

    with pytest.raises(type(error)) as raised:
        share_calls([partial(call, number) for number in range(3)], heard)
    assert (raised.value, going_on) == (error, set())


def modes() -> tuple[bool, bool, bool, torch.dtype]:
    return (
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_autocast_dtype("cpu"),
    )


@pytest.mark.parametrize(
    "mode",
    [
        *(nullcontext, torch.inference_mode, torch.no_grad),
        *(partial(torch.autocast, "cpu", dtype) for dtype in (torch.bfloat16, torch.float16)),
    ],
)
def test_modes_are_those_of_the_caller(
    threads: int, mode: Callable[[], AbstractContextManager]
) -> None:
    found = []
    with mode():
        share(lambda _: found.append(modes()), range(20), lambda _: None)
        assert set(found) == {modes()}


def test_counters_see_all_threads(threads: int) -> None:
    def work(_: int) -> None:
        x = torch.ones(32, 32)
        for _ in range(20):
            x = x @ x * 0.01

    with FlopCounterMode(display=False) as products:
        share(work, range(20), lambda _: None)
    assert products.get_total_flops() == 20 * 20 * 2 * 32**3

    kept = []
    with PeakMemory() as memory:
        share(lambda _: kept.append(torch.ones(1000)), range(50), lambda _: None)
        assert memory.peak == memory.current == 50 * 4000
        share(lambda _: kept.pop(), range(50), lambda _: None)
        assert memory.current == 0


def test_threads_begun_later_have_as_many_as_before(threads: int) -> None:
    _kept_workers.cache_clear()  # So that this call makes the threads.
    share(lambda _: None, range(10), lambda _: None)
    found = []
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert found == [threads]


def test_a_thread_that_cannot_begin_leaves_nothing_behind(
    threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, begun = threading.Thread.start, []

    def start_one(thread: threading.Thread) -> None:
        if begun:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    calls = [lambda report: report(1.0)] * 5
    if threads == 1:
        share_calls(calls, lambda _: None)  # Needs no thread.
        return
    with pytest.raises(RuntimeError, match="can't start new thread"):
        share_calls(calls, lambda _: None)
    begun[0].join(20)
    assert not begun[0].is_alive()
    assert torch.get_num_threads() == threads


def test_ctrl_c_at_any_moment_leaves_no_work_behind(threads: int) -> None:
    """Raised at every line of the loop in turn; a run that waits for ever fails by its time."""
    first = _share.__code__.co_firstlineno
    lines = inspect.getsource(_share).splitlines()
    start, stop = (first + lines.index(f"        {word}:") for word in ("try", "finally"))
    for moment in itertools.count():
        left, worked = moment, []

        def trace(frame: FrameType, event: str, _: object) -> Any:
            nonlocal left
            if frame.f_code is not _share.__code__:
                return None
            if event == "line" and start < frame.f_lineno < stop:
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise KeyboardInterrupt
            return trace

        caller = threading.Thread(target=_interrupted, args=(trace, worked), daemon=True)
        caller.start()
        caller.join(20)
        assert not caller.is_alive(), moment
        done = len(worked)
        if left >= 0:
            assert done == 10
            break
        assert len(worked) == done  # Nobody works on.


def _interrupted(trace: Callable[..., Any], worked: list[int]) -> None:
    sys.settrace(trace)
    try:
        share(worked.append, range(10), lambda _: None)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(None)


def _in_another_process(results: multiprocessing.SimpleQueue) -> None:
    worked = []
    share(worked.append, range(20), lambda _: None)
    results.put(sorted(worked))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_process_has_threads_of_its_own(threads: int) -> None:
    share(lambda _: None, range(20), lambda _: None)
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=_in_another_process, args=(results,), daemon=True)
    child.start()
    child.join(20)
    assert not child.is_alive()
    assert results.get() == [*range(20)]
