"""Training steps of our network beside those of spandrel's, which is the official one.

    python -m benchmarks.speed.training_speed --threads 2 \\
        --json benchmarks/results/training-cpu.json

One configuration, the same weights, batch and loss, forward, backward and Adam, all in one process
and in turn; medians. The first step, which is not timed, counts memory: the bytes of tensors alive
at its peak, with gradients and Adam's moments but without weights. ``swinir train`` chooses
bfloat16 where the processor computes in it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import nn

from swinir_core import PRESETS, SwinIR
from swinir_core.benchmark.contenders import random_checkpoint
from swinir_core.benchmark.counting import count_memory
from swinir_core.benchmark.machine import describe
from swinir_core.checkpoints.spandrel import spandrel_network
from swinir_core.training.runtime import keep_freed_memory

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--model", choices=PRESETS, default="lightweight_sr_x2")
    add("--patch", type=int, default=64, help="side of the network's input")
    add("--batch", type=int, default=4)
    add("--threads", type=int, default=torch.get_num_threads())
    add("--rounds", type=int, default=5)
    add("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_freed_memory()

    config = PRESETS[args.model]
    weights = random_checkpoint(config).state_dict
    theirs, ours = spandrel_network(config), SwinIR(config)
    theirs.load_state_dict(weights, strict=False)
    ours.load_state_dict(weights)
    steps = {
        (name, precision): step_of(network.train(), dtype, args.batch, args.patch, config.scale)
        for precision, dtype in PRECISIONS.items()
        for name, network in (("spandrel", theirs), ("swinir", ours))
    }
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    peaks = {key: count_memory(step, torch.device("cpu"))[0] for key, step in steps.items()}
    for _ in range(args.rounds):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[key].append(time.perf_counter() - start)

    slowest = median(seconds["spandrel", "float32"])
    results = [
        {
            "network": network,
            "precision": precision,
            "seconds": times,
            "median_seconds": median(times),
            "times_faster_than_float32": slowest / median(times),
            "times_faster_than_same": median(seconds["spandrel", precision]) / median(times),
            "peak_bytes": peaks[network, precision],
        }
        for (network, precision), times in seconds.items()
    ]
    for result in results:
        print(
            f"{result['network']:<10}{result['precision']:<10}{result['median_seconds']:8.3f} s"
            f"{result['times_faster_than_float32']:7.2f}{result['times_faster_than_same']:7.2f}"
            f"{result['peak_bytes'] / 2**20:8.0f} MiB"
        )
    if args.json:
        facts = {
            "command": f"python -m benchmarks.speed.training_speed --model {args.model} --patch "
            f"{args.patch} --batch {args.batch} --threads {args.threads} --rounds {args.rounds}",
            **describe(torch.device("cpu")),
            "results": results,
        }
        args.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def step_of(
    network: nn.Module, dtype: torch.dtype | None, batch: int, patch: int, scale: int
) -> Callable[[], torch.Tensor]:
    """One step of training on an image that stays the same."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
    low, high = torch.rand(batch, 3, patch, patch), torch.rand(batch, 3, *[patch * scale] * 2)

    def step() -> torch.Tensor:
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            loss = (network(low) - high).abs().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


if __name__ == "__main__":
    main()
