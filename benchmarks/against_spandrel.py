"""Time and memory of our network beside spandrel's, same weights, same process, in turn.

    python -m benchmarks.against_spandrel --threads 2 --json benchmarks/results/cpu.json

Each case runs both networks alternately and reports medians and their ratio. Memory is the peak of
live tensor bytes during one forward pass, counted operator by operator, weights not included.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from swinir_core import PRESETS, SwinIR
from tests.peak_memory import PeakMemory
from tests.reference import our_network, reference_network

CASES = [
    ("lightweight_sr_x2", 128),
    ("lightweight_sr_x2", 256),
    ("classical_sr_x4", 128),
    ("lightweight_sr_x2", 1024),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--largest", type=int, default=256, help="leave out larger images")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    results = [measure(preset, side, args.rounds) for preset, side in CASES if side <= args.largest]
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(
            json.dumps(environment(args.threads, args.rounds) | {"cases": results}, indent=2)
        )


@torch.inference_mode()
def measure(preset: str, side: int, rounds: int) -> dict[str, object]:
    config = PRESETS[preset]
    reference = reference_network(config)
    ours = our_network(config, reference)
    half = SwinIR(config, dtype=torch.bfloat16).eval()
    half.load_state_dict(ours.state_dict())
    x = torch.rand(1, config.in_channels, side, side)
    runs: dict[str, Callable[[], Tensor]] = {
        "spandrel": lambda: reference(x),
        "ours": lambda: ours(x),
        "ours bfloat16": lambda: half(x.bfloat16()),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    medians = {name: median(times[1:]) for name, times in seconds.items()}
    result = {
        "case": f"{preset}, {side}x{side}",
        "difference": (ours(x) - reference(x)).abs().max().item(),
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "speed ratio": {
            name: round(medians["spandrel"] / value, 2) for name, value in medians.items()
        },
        "peak MB": {name: round(peak(run) / 1e6, 1) for name, run in runs.items()},
    }
    print(json.dumps(result))
    return result


def peak(run: Callable[[], Tensor]) -> int:
    with PeakMemory() as memory:
        run()
    return memory.peak


def environment(threads: int, rounds: int) -> dict[str, object]:
    return {
        "command": f"python -m benchmarks.against_spandrel --threads {threads} --rounds {rounds}",
        "processor": platform.processor() or platform.machine(),
        "threads": threads,
        "torch": torch.__version__,
        "spandrel": version("spandrel"),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
