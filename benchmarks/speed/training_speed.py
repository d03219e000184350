"""Training steps of our network beside those of spandrel's, which is the official one.

    python -m benchmarks.speed.training_speed --threads 2 \\
        --json benchmarks/results/training-cpu.json

One configuration, the same weights, batch and loss, forward, backward and Adam, all in one process
and in turn; medians. The first step, which is not timed, counts memory: the bytes of tensors alive
at its peak, with gradients and Adam's moments but without weights. ``swinir train`` chooses
bfloat16 where the processor computes in it.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
from torch import nn

from benchmarks import common
from swinir_core import PRESETS, SwinIR
from swinir_core.benchmark.contenders import random_checkpoint
from swinir_core.benchmark.machine import time_run
from swinir_core.checkpoints.spandrel import spandrel_network
from swinir_core.restoration.peak_memory import count_memory
from swinir_core.training.runtime import keep_freed_memory

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}


def main() -> None:
    parser = common.parser(__doc__)
    common.add_threads(parser)
    add = parser.add_argument
    add("--model", choices=PRESETS, default="lightweight_sr_x2")
    add("--patch", type=int, default=64, help="side of the network's input")
    add("--batch", type=int, default=4)
    add("--rounds", type=int, default=5)
    args = parser.parse_args()
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
    peaks = {key: count_memory(step, common.CPU)[0] for key, step in steps.items()}
    timers = {key: lambda step=step: time_run(step, common.CPU)[0] for key, step in steps.items()}
    seconds = common.in_turn(timers, args.rounds)

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
    common.write(args.json, {"results": results})


def step_of(
    network: nn.Module, dtype: torch.dtype | None, batch: int, patch: int, scale: int
) -> Callable[[], torch.Tensor]:
    """A step of training on images that stay the same; returns the loss."""
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
