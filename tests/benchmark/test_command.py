"""Benchmarks: the models, inputs and cases, the command, and what it reports."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.speed import against_spandrel
from swinir_core import PRESETS, CheckpointError, SwinIRConfig, write_checkpoint
from swinir_core.benchmark import measuring as benchmark_module
from swinir_core.benchmark.contenders import (
    contenders_for,
    random_checkpoint,
    sample,
    weights_named,
)
from swinir_core.benchmark.counting import multiply_adds
from swinir_core.benchmark.machine import describe
from swinir_core.benchmark.measuring import Case, Result, run_cases
from swinir_core.checkpoints.models import build_model
from swinir_core.checkpoints.spandrel import spandrel_network
from swinir_core.cli.benchmark import text
from swinir_core.cli.main import main
from tests.support.reference import NARROW, TINY

CPU = torch.device("cpu")


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


def test_the_share_of_the_rate_of_products(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    machine = {**describe(CPU)["machine"], "device": "a GPU"}
    monkeypatch.setattr(
        benchmark_module, "describe", lambda _: {"machine": machine, "versions": {}}
    )
    monkeypatch.setattr(benchmark_module, "gemm_rate", lambda device: 800e12)
    results = [
        Result("m", 8, 8, "swinir", "bfloat16", teraflops_per_second=200.0),
        Result("m", 8, 8, "spandrel", "bfloat16", failure="CUDA out of memory"),
    ]
    facts = benchmark_module.report("a command", results, cuda, 1)
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
    plot = importlib.import_module("benchmarks.release.plot")
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

    script = REPOSITORY / "benchmarks" / "speed" / "against_host.py"
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
