"""Benchmarks: how time, memory and outputs are measured, and what fails into the table."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from swinir_core.benchmark import measuring as benchmark_module
from swinir_core.benchmark.contenders import Contender, contenders_for, random_checkpoint
from swinir_core.benchmark.counting import multiply_adds
from swinir_core.benchmark.machine import describe, gemm_rate, time_run
from swinir_core.benchmark.measuring import Case, Result, measure
from swinir_core.restoration.peak_memory import Convolution, PeakMemory, count_memory
from tests.support.reference import TINY

CPU = torch.device("cpu")
CASE = Case("tiny", 24, 16)


def contender(run: Callable[[Tensor], Tensor], network: str = "other", **more: Any) -> Contender:
    return Contender(network, "float32", run, CPU, torch.float32, **more)


def measured(*contenders: Contender, rounds: int = 1) -> list[Result]:
    return measure(CASE, TINY, contenders, CPU, rounds)


def fail(error: Exception, _: Tensor) -> Tensor:
    raise error


class TestPeakMemory:
    def test_it_is_of_the_storages_alive_together(self) -> None:
        before = torch.ones(1000)
        with PeakMemory() as memory:
            first = before + 1
            view = first[10:].view(-1, 10)
            del first
            second = view + 1  # 3960 bytes beside the 4000 that the view keeps alive.
            del view
            torch.ones(500)
            del second
            before.add_(1)
        assert memory.peak == 7960
        assert memory.current == 0

    @pytest.mark.parametrize("with_gradients", [False, True])
    def test_convolutions_are_noted_with_what_is_alive(self, with_gradients: bool) -> None:
        image, weight = torch.rand(1, 2, 5, 7), torch.rand(3, 2, 3, 3)
        weight.requires_grad_(with_gradients)
        with PeakMemory() as memory:
            result = torch.conv2d(image + 1, weight)
            if with_gradients:
                result.sum().backward()
        (noted,) = memory.convolutions.values()
        given, made = 2 * 5 * 7 * 4, 3 * 3 * 5 * 4
        assert noted == Convolution(given + made, given, made, 3 * 2 * 3 * 3 * 3 * 5)

    def test_a_measured_network_is_charged_with_its_result(self) -> None:
        (result,) = measured(contender(lambda x: (x + 1) * 2))
        assert result.peak_bytes == 2 * 3 * 24 * 16 * 4

    def test_cuda_is_asked_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[str] = []
        for name, value in (
            *(("synchronize", None), ("reset_peak_memory_stats", None)),
            *(("memory_allocated", 100), ("max_memory_allocated", 350)),
        ):

            def called(_: torch.device, name: str = name, value: int | None = value) -> int | None:
                calls.append(name)
                return value

            monkeypatch.setattr(torch.cuda, name, called)

        def run() -> Tensor:
            calls.append("run")
            return torch.ones(1)

        assert count_memory(run, torch.device("cuda"))[0] == 250
        assert calls.index("reset_peak_memory_stats") < calls.index("run")
        assert calls[-2:] == ["synchronize", "max_memory_allocated"]


class TestMeasure:
    def test_networks_run_in_turn_after_one_run_that_is_not_timed(self) -> None:
        sizes: list[tuple[str, int]] = []

        def run(name: str, x: Tensor) -> Tensor:
            sizes.append((name, x.shape[-1]))
            return x

        a, b = (contender(partial(run, name)) for name in "ab")
        results = measured(a, b, rounds=3)
        assert sizes == [("a", 20), ("b", 20)] + [("a", 24), ("b", 24)] * 4
        assert [len(result.seconds) for result in results] == [3, 3]

    def test_time_alone_and_memory_alone(self) -> None:
        for rounds, memory in ((2, False), (0, True)):
            pair = [contender(torch.clone), contender(lambda x: x + 0.01)]
            for result in measure(CASE, TINY, pair, CPU, rounds, memory):
                assert len(result.seconds) == rounds
                assert (result.peak_bytes is not None) == memory
                assert (result.median_seconds is not None) == (not memory)
            assert result.psnr == pytest.approx(40, abs=1e-3)

    def test_ratios_are_of_medians(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seconds = iter([4.0, 1.0, 90.0, 1.0, 2.0, 60.0])
        monkeypatch.setattr(
            benchmark_module, "time_run", lambda run, device: (next(seconds), run())
        )
        reference, other = measured(contender(torch.clone), contender(torch.clone), rounds=3)
        assert (reference.median_seconds, other.median_seconds) == (4.0, 1.0)
        assert (reference.times_faster, other.times_faster) == (1.0, 4.0)
        assert other.megapixels_per_second == 24 * 16 / 1e6
        operations = 2 * multiply_adds(TINY, 16, 24)
        assert other.teraflops_per_second == pytest.approx(operations / 1e12)

    def test_outputs_are_compared_with_the_first(self) -> None:
        reference, other, same = measured(
            contender(torch.clone), contender(lambda x: x + 0.01), contender(torch.clone)
        )
        assert (reference.max_difference, reference.psnr) == (None, None)
        assert other.max_difference == pytest.approx(0.01, rel=1e-4)
        assert other.psnr == pytest.approx(40, abs=1e-3)
        assert (same.max_difference, same.psnr) == (0, None)

    def test_time_is_that_of_the_run(self) -> None:
        def run() -> Tensor:
            time.sleep(0.02)
            return torch.ones(3)

        seconds, output = time_run(run, CPU)
        assert seconds >= 0.02
        assert len(output) == 3


class TestFailures:
    @pytest.mark.parametrize(
        ("error", "failure"),
        [
            (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to"), "CUDA out of memory"),
            (RuntimeError("sizes differ.\nmore"), "sizes differ"),
            (ValueError(), "ValueError"),
        ],
    )
    def test_another_network_fails_into_its_result(self, error: Exception, failure: str) -> None:
        reference, ours = measured(
            contender(partial(fail, error)), contender(torch.clone, "swinir")
        )
        assert reference.failure == failure
        assert (reference.seconds, reference.peak_bytes) == ([], None)
        assert (len(ours.seconds), ours.times_faster, ours.psnr) == (1, None, None)

    def test_ours_fails_into_its_result_only_for_memory(self) -> None:
        (result,) = measured(contender(partial(fail, MemoryError("no room")), "swinir"))
        assert result.failure == "no room"
        with pytest.raises(RuntimeError, match="a fault"):
            measured(contender(partial(fail, RuntimeError("a fault")), "swinir"))

    def test_running_out_of_memory_in_a_later_round(self) -> None:
        runs = iter([torch.clone, torch.clone, torch.clone, partial(fail, MemoryError("late"))])
        (result,) = measured(contender(lambda x: next(runs)(x)), rounds=9)
        assert (result.failure, len(result.seconds)) == ("late", 1)

    def test_an_output_that_is_not_finite(self) -> None:
        _, result = measured(contender(torch.clone), contender(lambda x: x / 0))
        assert result.failure == "the output is not finite in float32"

    def test_what_cannot_fit_a_cpu_is_not_tried(self) -> None:
        huge = contender(partial(fail, AssertionError("tried")), bytes_needed=lambda h, w: 10**18)
        case = Case("tiny", 10**6, 10**6)
        (result,) = measure(case, TINY, [huge], CPU, 1)
        assert result.failure.startswith("needs about 1000000000.0 GB, ")

    def test_memory_of_spandrel_is_foreseen(self) -> None:
        spandrel = contenders_for(random_checkpoint(TINY), ["float32"], CPU)[0]
        assert spandrel.bytes_needed is not None
        case = Case("tiny", 72, 64)
        (result,) = measure(case, TINY, [spandrel], CPU, 1)
        assert spandrel.bytes_needed(64, 72) == pytest.approx(result.peak_bytes, rel=0.15)


def test_the_machine_is_described() -> None:
    facts = describe(CPU)
    assert facts["machine"]["processor"]
    assert facts["machine"]["memory_bytes"] > 10**8
    assert facts["machine"]["threads"] == torch.get_num_threads()
    assert facts["versions"]["torch"] == torch.__version__
    assert {"python", "spandrel"} <= facts["versions"].keys()


def test_describing_a_gpu_runs_nothing_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = SimpleNamespace(name="a GPU", total_memory=10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    facts = describe(torch.device("cuda"))
    assert facts["machine"]["device"] == "a GPU"
    assert facts["machine"]["device_memory_bytes"] == 10**9
    assert "bfloat16_gemm_teraflops" not in facts["machine"]


def test_the_rate_of_products() -> None:
    assert 1e6 < gemm_rate(CPU, side=64, rounds=2) < 1e14
