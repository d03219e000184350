"""The estimate is held against bytes counted during real runs, and the growth of a process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from swinir_core import PRESETS, SwinIR
from swinir_core.network.memory import Parts
from swinir_core.restoration.peak_memory import PeakMemory

CASES = [
    ("lightweight_sr_x2", 64, 64, 1, torch.float32),
    ("lightweight_sr_x2", 100, 39, 1, torch.bfloat16),
    ("lightweight_sr_x4", 40, 64, 2, torch.float32),
    ("classical_sr_x3", 32, 32, 1, torch.float32),
    ("classical_sr_x4", 40, 24, 1, torch.float32),
    ("classical_sr_x4", 300, 64, 1, torch.float32),
    ("classical_sr_x8", 24, 24, 1, torch.float32),
    ("real_sr_x2", 32, 32, 1, torch.float32),
    ("real_sr_x4", 32, 48, 1, torch.float32),
    ("gray_denoise", 50, 30, 1, torch.bfloat16),
    ("color_jpeg", 50, 63, 1, torch.float32),
]
CPU = torch.device("cpu")


# What several threads have alive together depends on how they take turns.
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("preset", "height", "width", "batch", "dtype"), CASES)
def test_tensors_alive_are_told_within_15_percent(
    preset: str, height: int, width: int, batch: int, dtype: torch.dtype
) -> None:
    # Two RSTBs stand for all: each overwrites the memory of the one before.
    config = replace(
        PRESETS[preset],
        depths=PRESETS[preset].depths[:2],
        num_heads=PRESETS[preset].num_heads[:2],
    )
    network = SwinIR(config, dtype=dtype).eval()
    x = torch.rand(batch, config.in_channels, height, width, dtype=dtype)
    with torch.inference_mode(), PeakMemory() as memory:
        network(x)
    estimate = Parts.of(config, height, width, batch, dtype, CPU).alive
    assert estimate == pytest.approx(memory.peak, rel=0.15)


@pytest.mark.parametrize("preset", ["lightweight_sr_x2", "classical_sr_x4", "color_jpeg"])
def test_the_number_of_layers_costs_no_memory(preset: str) -> None:
    peaks = []
    for depth in (2, 6):
        config = replace(PRESETS[preset], depths=(depth,) * 2, num_heads=(6,) * 2)
        network = SwinIR(config).eval()
        with torch.inference_mode(), PeakMemory() as memory:
            network(torch.rand(1, 3, 56, 56))
        peaks.append(memory.peak)
    assert peaks[0] == peaks[1]


@pytest.mark.parametrize("preset", ["lightweight_sr_x2", "classical_sr_x4"])
def test_threads_have_alive_together_no_more_than_the_estimate(preset: str) -> None:
    torch.set_num_threads(4)
    config = replace(PRESETS[preset], depths=(2,), num_heads=(6,))
    network = SwinIR(config).eval()
    with torch.inference_mode(), PeakMemory() as memory:
        network(torch.rand(1, 3, 64, 192))
    estimate = Parts.of(config, 64, 192, 1, torch.float32, CPU).alive
    # Where others get no time one thread alone has 0.57 of it alive (lightweight). That all threads
    # are counted is tested in test_threads.py.
    assert 0.5 * estimate <= memory.peak <= 1.05 * estimate


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells of a process")
@pytest.mark.parametrize("case", ["lightweight_sr_x2 4 64 96", "real_x4_light 1 128 128"])
def test_a_process_grows_by_the_estimate(case: str) -> None:
    command = [sys.executable, "-m", "benchmarks.memory.resident", "--threads", "2", "--case"]
    done = subprocess.run([*command, *case.split()], stdout=subprocess.PIPE, check=True)
    # It grows less where other programs leave its threads no time together.
    assert 0.8 <= json.loads(done.stdout)["ratio"] <= 1.7
