"""Benchmarks: what is counted and compared, what fails into the table, and the command."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import against_spandrel
from swinir_core import PRESETS, CheckpointError, SwinIRConfig, write_checkpoint
from swinir_core import benchmark as benchmark_module
from swinir_core.benchmark import Case, Result, measure, multiply_adds, run_cases
from swinir_core.benchmark_inputs import (
    Contender,
    contenders_for,
    random_checkpoint,
    sample,
    weights_named,
)
from swinir_core.cli import main
from swinir_core.cli_benchmark import text
from swinir_core.machine import describe, gemm_rate, time_run
from swinir_core.models import build_model
from swinir_core.peak_memory import PeakMemory, count_memory
from swinir_core.spandrel_network import spandrel_network

CPU = torch.device("cpu")
CASE = Case("tiny", 24, 16)
TINY = SwinIRConfig(
    scale=2,
    in_channels=3,
    embed_dim=12,
    depths=(2, 2),
    num_heads=(2, 2),
    window_size=4,
    mlp_ratio=2.0,
    upsampler="pixelshuffledirect",
)
NARROW = replace(TINY, upsampler="pixelshuffle", task="", num_feat=8)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model file in the working folder, which holds nothing else."""
    monkeypatch.chdir(tmp_path)
    write_checkpoint("tiny.safetensors", random_checkpoint(TINY))
    return "tiny.safetensors"


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


class TestCases:
    def test_same_weights_same_output(self, model: str) -> None:
        cases = [Case(model, 21, 15), Case(model, 16, 16)]
        results = run_cases(cases, ["float32", "bfloat16"], CPU, rounds=1)
        who = [(result.network, result.precision) for result in results]
        networks, precisions = ("spandrel", "swinir"), ("float32", "bfloat16")
        assert who == [(n, p) for n in networks for p in precisions] * 2
        for spandrel, autocast, exact, half in (results[:4], results[4:]):
            assert (spandrel.estimated_bytes, autocast.estimated_bytes) == (None, None)
            assert autocast.psnr is not None
            assert 20 < autocast.psnr < 100
            assert exact.max_difference is not None
            assert exact.max_difference < 1e-5
            assert half.psnr is not None
            assert 20 < half.psnr < 100
            for ours in (exact, half):
                dtype = getattr(torch, ours.precision)
                network = build_model(random_checkpoint(TINY), CPU, dtype)
                size = (ours.height, ours.width)
                assert ours.estimated_bytes == network.estimate_memory(*size, dtype, CPU)

    @pytest.mark.parametrize("changes", [{"mean": (0.1, 0.2, 0.3)}, {"start_unshuffle": 2}])
    def test_spandrel_is_given_what_it_does_not_know(self, changes: dict) -> None:
        checkpoint = random_checkpoint(replace(TINY, **changes))
        spandrel, ours = contenders_for(checkpoint, ["float32"], CPU)
        x = torch.rand(1, 3, 16, 24)
        torch.testing.assert_close(spandrel.run(x), ours.run(x), rtol=0, atol=1e-5)

    def test_a_model_that_spandrel_cannot_hold(self, tmp_path: Path) -> None:
        file = tmp_path / "narrow.safetensors"
        write_checkpoint(file, random_checkpoint(NARROW))
        spandrel, ours = run_cases([Case(str(file), 16, 16)], ["float32"], CPU, rounds=1)
        assert spandrel.failure == "its reconstruction has 64 channels, that of these weights 8"
        assert (ours.failure, len(ours.seconds)) == ("", 1)

    def test_without_spandrel(self, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "spandrel.architectures.SwinIR", None)
        spandrel, ours = run_cases([Case(model, 16, 16)], ["float32"], CPU, rounds=1)
        assert "spandrel" in spandrel.failure
        assert ours.seconds

    def test_the_projects_cases_have_presets(self) -> None:
        cases = [case for cases in against_spandrel.CASES.values() for case in cases]
        assert {case.model for case in cases} <= PRESETS.keys()


class TestInputs:
    def test_random_weights_all_matter(self) -> None:
        model = build_model(random_checkpoint(replace(TINY, img_size=8, ape=True)))
        x = sample(3, 8, 8)
        expected = model(x)
        for name, weight in model.named_parameters():
            before = weight.clone()
            weight.fill_(before.mean())
            assert (model(x) - expected).abs().max() > 1e-6, name
            weight.copy_(before)

    def test_random_weights_are_the_same_for_the_same_seed(self) -> None:
        first, again, other = (random_checkpoint(TINY, seed).state_dict for seed in (0, 0, 1))
        for name, weight in first.items():
            assert torch.equal(weight, again[name]), name
            assert not torch.equal(weight, other[name]), name

    def test_weights_by_name(self, model: str) -> None:
        assert weights_named("lightweight_sr_x2").config == PRESETS["lightweight_sr_x2"]
        assert weights_named(model).config == TINY
        with pytest.raises(
            CheckpointError, match=r"upscale_x2_light.*\. Presets.*: classical_sr_x2"
        ):
            weights_named("nothing")

    def test_the_photograph_of_any_size(self) -> None:
        image = sample(3, 310, 470)
        assert image.shape == (1, 3, 310, 470)
        whole = sample(3, 300, 450)
        assert torch.equal(image[..., :300, :450], whole)
        assert torch.equal(whole[..., 150:, :], whole[..., :150, :].flip(-2))
        assert torch.equal(whole[..., 225:], whole[..., :225].flip(-1))
        assert sample(1, 9, 7).shape == (1, 1, 9, 7)
        assert whole.std() > 0.1


class TestMultiplyAdds:
    @pytest.mark.parametrize(
        "config", [TINY, replace(NARROW, num_feat=64), replace(TINY, start_unshuffle=2)]
    )
    def test_as_many_as_spandrel_does(self, config: SwinIRConfig) -> None:
        rows, columns = 2 * config.alignment, 3 * config.alignment
        network = spandrel_network(config)
        with torch.no_grad(), FlopCounterMode(display=False) as flops:
            network(torch.rand(1, 3, rows, columns))
        assert multiply_adds(config, rows - 1, columns) == flops.get_total_flops() / 2

    def test_close_to_the_paper_without_attention_products(self) -> None:
        config = PRESETS["lightweight_sr_x2"]
        attention = 24 * 2 * 64 * 60 * 360 * 640
        assert multiply_adds(config, 360, 640) - attention == pytest.approx(195.6e9, rel=0.02)


def test_the_machine_is_described() -> None:
    facts = describe(CPU)
    assert facts["machine"]["processor"]
    assert facts["machine"]["memory_bytes"] > 10**8
    assert facts["machine"]["threads"] == torch.get_num_threads()
    assert facts["versions"]["torch"] == torch.__version__
    assert {"python", "spandrel"} <= facts["versions"].keys()


def test_the_rate_of_products() -> None:
    assert 1e6 < gemm_rate(CPU, side=64, rounds=2) < 1e14


def test_the_share_of_the_rate_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = describe(CPU)
    facts["machine"] |= {"device": "a GPU", "bfloat16_gemm_teraflops": 800.0}
    monkeypatch.setattr(benchmark_module, "describe", lambda device: facts)
    results = [
        Result("m", 8, 8, "swinir", "bfloat16", teraflops_per_second=200.0),
        Result("m", 8, 8, "spandrel", "bfloat16", failure="CUDA out of memory"),
    ]
    facts = benchmark_module.report("a command", results, CPU, 1)
    assert [case["gemm_share"] for case in facts["cases"]] == [0.25, None]
    lines = text(facts, results).splitlines()
    assert lines[0].startswith("a GPU; ")
    assert "800 TFLOP/s" in lines[2]
    assert "of product" in lines[4]
    assert "25.0%" in lines[5]
    assert lines[6].endswith("CUDA out of memory")


def run(*arguments: str) -> int:
    return main(["benchmark", *arguments, "--device", "cpu", "--rounds", "2"])


class TestCommand:
    def test_table_and_json(self, model: str, capsys: pytest.CaptureFixture[str]) -> None:
        torch.set_num_threads(2)
        sizes = ("--size", "16", "24x16")
        assert run("--model", model, *sizes, "--threads", "1", "--json", "out.json") == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith(describe(CPU)["machine"]["processor"])
        assert "rounds: 2" in lines[1]
        assert "spandrel in float32" in lines[1]
        columns = ["model", "image", "network", "precision", "seconds", "times faster"]
        columns += ["megapixels/s", "peak memory", "estimated", "output"]
        assert [lines[3].index(column) for column in columns] == sorted(
            lines[3].index(column) for column in columns
        )
        assert len(lines) == 4 + 8
        assert lines[4].split()[:4] == [model, "16x16", "spandrel", "float32"]
        assert lines[11].split()[:4] == [model, "24x16", "swinir", "bfloat16"]
        assert lines[10].endswith(" dB")
        assert " MB  within " in lines[10]

        facts = json.loads(Path("out.json").read_text())
        assert facts["command"] == (
            f"swinir benchmark --model {model} --size 16x16 24x16 --device cpu "
            f"--precision float32 bfloat16 --threads 1 --rounds 2"
        )
        assert facts["machine"]["threads"] == 1
        assert (facts["rounds"], facts["reference"]) == (2, "spandrel in float32")
        assert len(facts["cases"]) == 8
        for case in facts["cases"]:
            assert case.keys() == {field.name for field in fields(Result)}
            assert len(case["seconds"]) == 2
            for name in ("median_seconds", "times_faster", "megapixels_per_second", "peak_bytes"):
                assert case[name] > 0
            assert math.isfinite(case["teraflops_per_second"])
            compared = (case["network"], case["precision"]) != ("spandrel", "float32")
            assert (case["max_difference"] is not None) == compared

    def test_json_alone(self, model: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("--model", model, "--size", "8", "--json", "-") == 0
        assert len(json.loads(capsys.readouterr().out)["cases"]) == 4

    def test_one_of_time_and_memory(self, model: str, capsys: pytest.CaptureFixture[str]) -> None:
        for only, missing in (("time", "peak memory"), ("memory", "seconds")):
            assert run("--model", model, "--size", "8", "--only", only) == 0
            heading = capsys.readouterr().out.splitlines()[3]
            assert [c for c in ("peak memory", "seconds") if c not in heading] == [missing]

    def test_precisions_and_repeated_arguments(
        self, model: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        precisions = ("--precision", "float16", "float16")
        assert run("--model", model, "--size", "8", "8x8", *precisions, "--json", "-") == 0
        cases = json.loads(capsys.readouterr().out)["cases"]
        assert [case["precision"] for case in cases] == ["float32", "float16", "float16"]

    def test_the_table_says_why_spandrel_is_missing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "narrow.safetensors"
        write_checkpoint(file, random_checkpoint(NARROW))
        assert run("--model", str(file), "--size", "8", "--precision", "float32") == 0
        spandrel, ours = capsys.readouterr().out.splitlines()[-2:]
        assert spandrel.endswith("its reconstruction has 64 channels, that of these weights 8")
        assert ours.split()[2] == "swinir"

    @pytest.mark.parametrize(
        ("arguments", "status", "reason"),
        [
            (["--size", "0"], 2, "--size: must be a side or WIDTHxHEIGHT in pixels, not '0'"),
            (["--size", "12x"], 2, "not '12x'"),
            (["--rounds", "0"], 2, "--rounds: must be a number of at least 1, not '0'"),
            (["--threads", "-1"], 2, "--threads: must be a number of at least 1, not '-1'"),
            (["--precision", "int8"], 2, "invalid choice: 'int8'"),
            (["--model", ""], 2, '--model: must name something, not ""'),
            (["--model", "gone.pth"], 1, "gone.pth: neither a file nor a bundled model"),
            (["--device", "cuda:99"], 2, "--device cuda:99: this machine has"),
            (
                ["--json", "out.txt"],
                2,
                "--json: the name must end in .json, or be -, not 'out.txt'",
            ),
            (["--json", "gone/out.json"], 2, "--json: there is no folder 'gone'"),
        ],
    )
    def test_bad_usage_is_one_sentence(
        self, arguments: list[str], status: int, reason: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        try:
            result = main(["benchmark", *arguments])
        except SystemExit as error:
            result = error.code
        assert result == status
        assert reason in capsys.readouterr().err.splitlines()[-1]


def test_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    plot = importlib.import_module("benchmarks.plot")
    results = [
        Result("m", side, side, *who, median_seconds=side**2 / 1e4, peak_bytes=side**2 * 100)
        for side in (8, 16)
        for who in plot.LINES
    ]
    report = benchmark_module.report("a command", results, CPU, 1)
    (tmp_path / "a.json").write_text(json.dumps(report))
    command = ["plot", str(tmp_path / "a.json"), "--out", str(tmp_path / "a.png"), "--model"]
    monkeypatch.setattr(sys, "argv", [*command, "m"])
    plot.main()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(sys, "argv", [*command, "other"])
    with pytest.raises(SystemExit, match="2"):
        plot.main()


@pytest.mark.host
@pytest.mark.slow
def test_against_the_host(model: str) -> None:
    from tests.host.conftest import REPOSITORY, find_home, find_python

    script = REPOSITORY / "benchmarks" / "against_host.py"
    arguments = ["--cpu", "--threads", "1", "--model", model, "--size", "520", "16"]
    done = subprocess.run(
        [find_python(find_home()), script, *arguments, "--rounds", "1", "--json", "out.json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(Path("out.json").read_text())
    theirs, ours = facts["cases"]
    assert (theirs["network"], ours["network"]) == ("host", "swinir")
    assert (theirs["precision"], ours["precision"]) == ("float32", "float32")
    assert ours["psnr"] > 40
    assert ours["times_faster"] > 0
    assert facts["pieces"] == {"host": ["512x16", "40x16"], "swinir": ["520x16"]}
    assert "comfyui" in facts["versions"]
