"""How much of a run on the CPU is spent in products: linear layers, convolutions, attention.

    python -m benchmarks.speed.products --threads 2 --json benchmarks/results/products-cpu.json

The rest is all that can be saved beside them. ``at_most`` is how many times faster than spandrel in
float32 our network would be if the rest took no time. All in one process and in turn, medians;
products are timed in a run of their own, so on a busy machine this is a rough bound.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from swinir_core.benchmark.contenders import OURS, contenders_for, sample, weights_named
from swinir_core.benchmark.machine import describe, time_run
from swinir_core.benchmark.measuring import Case, multiply_adds

CPU = torch.device("cpu")
CASES = (
    Case("lightweight_sr_x2", 128, 128),
    Case("lightweight_sr_x2", 256, 256),
    Case("classical_sr_x4", 128, 128),
)
PRODUCTS = {"linear", "addmm", "mm", "bmm", "baddbmm", "baddbmm_", "conv2d", "convolution"}


class TimeInProducts(TorchDispatchMode):
    """Sums the seconds that products take."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in PRODUCTS:
            self.seconds += time.perf_counter() - start
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--threads", type=int, default=torch.get_num_threads())
    add("--rounds", type=int, default=5)
    add("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    results = [result for case in CASES for result in measure(case, args.rounds)]
    for result in results:
        print(
            f"{result['model']:<20}{result['width']}x{result['height']:<6}"
            f"{result['precision']:<10}{result['median_seconds']:8.3f} s, products "
            f"{result['median_seconds_in_products']:6.3f} s at "
            f"{result['gigaflops_per_second_in_products']:4.0f} GFLOP/s; times faster "
            f"{result['times_faster']:5.2f}, at most {result['at_most']:5.2f}"
        )
    if args.json:
        command = (
            f"python -m benchmarks.speed.products --threads {args.threads} --rounds {args.rounds}"
        )
        facts = {"command": command, **describe(CPU), "results": results}
        args.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


@torch.inference_mode()
def measure(case: Case, rounds: int) -> list[dict[str, Any]]:
    """One result for each precision of our network."""
    checkpoint = weights_named(case.model)
    reference, *others = contenders_for(checkpoint, ("float32", "bfloat16"), CPU)
    ours = [contender for contender in others if contender.network == OURS]
    image = sample(checkpoint.config.in_channels, case.height, case.width)
    theirs: list[float] = []
    seconds: dict[str, list[float]] = {contender.precision: [] for contender in ours}
    products: dict[str, list[float]] = {contender.precision: [] for contender in ours}
    for number in range(rounds + 1):  # The first warms up.
        taken, _ = time_run(partial(reference.run, image), CPU)
        if number:
            theirs.append(taken)
        for contender in ours:
            run = partial(contender.run, image.to(contender.dtype))
            taken, _ = time_run(run, CPU)
            with TimeInProducts() as spent:
                run()
            if number:
                seconds[contender.precision].append(taken)
                products[contender.precision].append(spent.seconds)
    operations = 2 * multiply_adds(checkpoint.config, case.height, case.width)
    return [
        {
            "model": case.model,
            "width": case.width,
            "height": case.height,
            "precision": precision,
            "spandrel_float32_seconds": theirs,
            "seconds": seconds[precision],
            "seconds_in_products": products[precision],
            "median_seconds": median(seconds[precision]),
            "median_seconds_in_products": median(products[precision]),
            "gigaflops_per_second_in_products": operations / 1e9 / median(products[precision]),
            "times_faster": median(theirs) / median(seconds[precision]),
            "at_most": median(theirs) / median(products[precision]),
        }
        for precision in seconds
    ]


if __name__ == "__main__":
    main()
