"""Time of a run on the CPU spent in products: linear layers, convolutions, attention.

    python -m benchmarks.speed.products --threads 2 --json benchmarks/results/products-cpu.json

The rest is all that can be saved beside them. ``at_most`` is how many times faster than spandrel in
float32 our network would be if the rest took no time. All in one process and in turn, medians;
products are timed in a run of their own, so on a busy machine this is a rough bound.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import common
from benchmarks.common import CPU
from swinir_core.benchmark.contenders import OURS, contenders_for, sample, weights_named
from swinir_core.benchmark.counting import multiply_adds
from swinir_core.benchmark.machine import time_run
from swinir_core.benchmark.measuring import Case

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
    parser = common.parser(__doc__)
    common.add_threads(parser)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    results = [result for case in CASES for result in measure(case, args.rounds)]
    for result in results:
        print(
            f"{result['model']:<20}{result['width']}x{result['height']:<6}"
            f"{result['precision']:<10}{result['median_seconds']:8.3f} s, products "
            f"{result['median_seconds_in_products']:6.3f} s at "
            f"{result['gigaflops_per_second_in_products']:4.0f} GFLOP/s; times faster "
            f"{result['times_faster']:5.2f}, at most {result['at_most']:5.2f}"
        )
    common.write(args.json, {"results": results})


@torch.inference_mode()
def measure(case: Case, rounds: int) -> list[dict[str, Any]]:
    """One result for each precision of our network."""
    checkpoint = weights_named(case.model)
    reference, *others = contenders_for(checkpoint, ("float32", "bfloat16"), CPU)
    ours = [contender for contender in others if contender.network == OURS]
    image = sample(checkpoint.config.in_channels, case.height, case.width)

    def seconds_in_products(run: Callable[[], Any]) -> float:
        with TimeInProducts() as spent:
            run()
        return spent.seconds

    timers = {("spandrel", "whole"): lambda: time_run(partial(reference.run, image), CPU)[0]}
    for contender in ours:
        run = partial(contender.run, image.to(contender.dtype))
        timers[contender.precision, "whole"] = lambda run=run: time_run(run, CPU)[0]
        timers[contender.precision, "products"] = partial(seconds_in_products, run)
    # The first round warms up.
    seconds = {key: times[1:] for key, times in common.in_turn(timers, rounds + 1).items()}
    theirs = seconds["spandrel", "whole"]
    operations = 2 * multiply_adds(checkpoint.config, case.height, case.width)
    results = []
    for precision in (contender.precision for contender in ours):
        whole, products = seconds[precision, "whole"], seconds[precision, "products"]
        results.append(
            {
                "model": case.model,
                "width": case.width,
                "height": case.height,
                "precision": precision,
                "spandrel_float32_seconds": theirs,
                "seconds": whole,
                "seconds_in_products": products,
                "median_seconds": median(whole),
                "median_seconds_in_products": median(products),
                "gigaflops_per_second_in_products": operations / 1e9 / median(products),
                "times_faster": median(theirs) / median(whole),
                "at_most": median(theirs) / median(products),
            }
        )
    return results


if __name__ == "__main__":
    main()
