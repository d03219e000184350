"""Our network beside spandrel's while other programs compute on the same cores.

    python -m benchmarks.speed.busy_machine --threads 2 --programs 4 \\
        --json benchmarks/results/busy-machine.json

Both in one process and in turn, medians, first on a quiet machine. ``slower`` is how many times as
long a run takes beside the other programs: with P of them on C cores a fair share of the cores
makes it 1 + P / C for a network that uses all of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from statistics import median

import torch

from benchmarks import common
from benchmarks.common import CPU
from swinir_core.benchmark.contenders import contenders_for, sample, weights_named
from swinir_core.benchmark.machine import time_run


@torch.inference_mode()
def main() -> None:
    parser = common.parser(__doc__)
    common.add_threads(parser)
    add = parser.add_argument
    add("--model", default="lightweight_sr_x2")
    add("--size", type=int, default=192, help="side of the picture")
    add("--programs", type=int, default=4, help="others that compute")
    add("--rounds", type=int, default=3)
    args = parser.parse_args()

    checkpoint = weights_named(args.model)
    image = sample(checkpoint.config.in_channels, args.size, args.size)
    timers = {
        contender.network: partial(seconds_of, partial(contender.run, image))
        for contender in contenders_for(checkpoint, ("float32",), CPU)
    }
    common.in_turn(timers, 1)
    quiet = common.in_turn(timers, args.rounds)
    with busy(args.programs):
        beside = common.in_turn(timers, args.rounds)
    results = [
        {
            "network": network,
            "quiet_seconds": quiet[network],
            "busy_seconds": beside[network],
            "slower": median(beside[network]) / median(quiet[network]),
            "times_faster_quiet": median(quiet["spandrel"]) / median(quiet[network]),
            "times_faster_busy": median(beside["spandrel"]) / median(beside[network]),
        }
        for network in timers
    ]
    for result in results:
        print(
            f"{result['network']:<10}{median(result['quiet_seconds']):8.3f} s quiet"
            f"{median(result['busy_seconds']):8.3f} s busy, {result['slower']:.2f} times as long; "
            f"times faster {result['times_faster_quiet']:.2f} and {result['times_faster_busy']:.2f}"
        )
    facts = {"model": args.model, "size": args.size, "programs": args.programs}
    common.write(args.json, {**facts, "results": results})


def seconds_of(run: partial[torch.Tensor]) -> float:
    return time_run(run, CPU)[0]


@contextmanager
def busy(programs: int) -> Iterator[None]:
    """Let other programs compute meanwhile."""
    context = get_context("spawn")
    others = [context.Process(target=compute, daemon=True) for _ in range(programs)]
    for other in others:
        other.start()
    time.sleep(2)  # Until all have begun.
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.join()


def compute() -> None:
    while True:
        sum(i * i for i in range(10**5))


if __name__ == "__main__":
    main()
