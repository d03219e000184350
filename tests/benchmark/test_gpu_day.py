"""The GPU's day, rehearsed on the CPU."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gpu_day import parts
from benchmarks.gpu_day.contenders import in_tiles
from swinir_core.benchmark.measuring import Case, Result

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
PARTS = ("self_check", "ceilings", "parity", "memory", "out_of_memory", "times")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every part of a rehearsal wrote."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    out = tmp_path_factory.mktemp("day")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_day", "--rehearse", "--out", str(out)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return {name: json.loads((out / f"{name}.json").read_text("utf-8")) for name in PARTS}


@pytest.mark.parametrize("name", PARTS)
def test_each_part_says_where_and_how_it_was_measured(written: dict[str, Any], name: str) -> None:
    facts = written[name]
    assert facts["command"].startswith("python -m benchmarks.gpu_day --rehearse")
    assert {"machine", "versions", "seconds"} <= facts.keys()
    assert "failure" not in facts


def test_every_path_is_beside_spandrel(written: dict[str, Any]) -> None:
    # The interpreter does not know how to multiply bfloat16.
    assert written["self_check"]["kernels"] == ["float16", "float32"]
    worst = dict.fromkeys([("swinir", "float32"), ("swinir, no kernel", "float32")], 1e-5)
    halves = [("swinir", "float16"), *(("swinir, no kernel", p) for p in ("float16", "bfloat16"))]
    worst |= dict.fromkeys(halves, 0.05)
    for case in written["parity"]["cases"]:
        if case["network"] != "spandrel":
            assert case["max_difference"] < worst[case["network"], case["precision"]], case
    for part in ("parity", "times"):
        assert worst.keys() < {(c["network"], c["precision"]) for c in written[part]["cases"]}


def test_memory_is_estimated_at_ten_shapes(written: dict[str, Any]) -> None:
    ratios = [result["ratio"] for result in written["memory"]["results"]]
    assert len(ratios) == 10
    assert 0.85 < min(ratios) < max(ratios) < 1.2


def test_the_ladder_ends_at_a_size_that_fits(written: dict[str, Any]) -> None:
    calls = [result["called"] for result in written["out_of_memory"]["results"]]
    assert all(called[0] == "1x3x128x128" for called in calls)
    assert [len(set(called)) for called in calls] == sorted(len(set(called)) for called in calls)
    assert len(set(calls[-1])) > 2
    assert all(r["max_difference"] < 1e-4 for r in written["out_of_memory"]["results"])


def test_times_are_set_beside_the_tiles_of_the_host(written: dict[str, Any]) -> None:
    facts = written["times"]
    assert {case["network"] for case in facts["cases"]} > {"spandrel", "spandrel, tiled"}
    assert all(case["seconds"] and not case["failure"] for case in facts["cases"])
    assert len(facts["against_tiles"]) == 2 * 5
    assert facts["left_out"] == []


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which passes where a case is measured: ten seconds each."""
    now = [0.0]

    def measured(_: parts.Day, case: Case, rounds: int) -> list[Result]:
        now[0] += 10
        return [Result(case.model, case.width, case.height, "swinir", "float32")]

    monkeypatch.setattr(parts, "_measured", measured)
    monkeypatch.setattr(parts, "monotonic", lambda: now[0])
    monkeypatch.setattr(parts.common, "command", lambda: "a command")
    return now


def test_what_there_is_no_time_for_is_named(seconds: list[float]) -> None:
    """The first size takes 30 seconds; each case of the next is expected to take 34."""
    *_, facts = parts.times(parts.Day(CPU, False, ends=60))
    assert [case["width"] for case in facts["cases"]] == [640] * 3
    assert len(facts["left_out"]) == 6
    assert facts["left_out"][:2] == [f"{m} 1024x1024" for m in (parts.LIGHT, parts.MEDIUM)]


def test_it_is_added_later(seconds: list[float]) -> None:
    first = Result(parts.LIGHT, 640, 480, "swinir", "float32", [7.0], 7.0)
    *_, facts = parts.times(parts.Day(CPU, False, math.inf, [first]))
    assert (len(facts["cases"]), facts["left_out"]) == (9, [])
    assert facts["cases"][0]["seconds"] == [7.0]
    assert seconds == [80.0]


def test_a_gpu_is_given_a_share_of_what_is_needed_and_all_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device, limits = torch.device("cuda", 0), []
    properties = SimpleNamespace(total_memory=1000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *limit: limits.append(limit)
    )
    with parts._limited(parts.Day(device, False, math.inf), torch.nn.Identity(), 0.5, 200, 0):
        assert limits == [(0.2, device)]
    assert limits[1:] == [(1.0, device)]


def test_tiles_of_a_network_that_sees_pixels_alone_are_the_whole() -> None:
    x = torch.rand(1, 3, 30, 41)

    def network(part: torch.Tensor) -> torch.Tensor:
        assert max(part.shape[2:]) <= 16
        return part.repeat_interleave(2, 2).repeat_interleave(2, 3) * 2

    whole = 2 * x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(in_tiles(network, x, 16, 4), whole)
