"""Our network beside spandrel's while other programs compute on the same cores.

    python -m benchmarks.speed.busy_machine --threads 2 --programs 4 \\
        --json benchmarks/results/busy-machine.json

Both in one process and in turn, medians, first on a quiet machine. ``slower`` is how many times as
long a run takes beside the other programs: with P of them on C cores a fair share of the cores
makes it 1 + P / C for a network that uses all of them.

With ``--files`` models of other architectures, called by spandrel and run by a ``Restorer``, which
gives each thread a tile of its own:

    python -m benchmarks.speed.busy_machine --threads 2 --size 80 --pictures 2 \\
        --files RealESRGAN_x4plus.safetensors --json benchmarks/results/busy-machine-files.json
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from spandrel import ImageModelDescriptor, ModelLoader

from benchmarks import common
from benchmarks.common import CPU
from swinir_core.benchmark.contenders import contenders_for, sample, weights_named
from swinir_core.benchmark.machine import time_run
from swinir_core.restoration.foreign_model import ForeignModel
from swinir_core.restoration.restorer import Restorer


@torch.inference_mode()
def main() -> None:
    parser = common.parser(__doc__)
    common.add_threads(parser)
    add = parser.add_argument
    add("--model", default="lightweight_sr_x2")
    add("--files", nargs="+", metavar="FILE", help="other architectures instead")
    add("--size", type=int, default=192, help="side of a picture")
    add("--pictures", type=int, default=1)
    add("--programs", type=int, default=4, help="others that compute")
    add("--rounds", type=int, default=3)
    args = parser.parse_args()

    results = []
    for model in args.files or [args.model]:
        timers = (of_file if args.files else of_network)(model, args.size, args.pictures)
        results += measure(Path(model).name, timers, args)
    facts = {name: getattr(args, name) for name in ("size", "pictures", "programs")}
    common.write(args.json, {**facts, "results": results})


Timers = Mapping[str, Callable[[], float]]


def of_network(model: str, size: int, pictures: int) -> Timers:
    """A SwinIR, by our network and by spandrel's."""
    checkpoint = weights_named(model)
    image = sample(checkpoint.config.in_channels, size, size).expand(pictures, -1, -1, -1)
    return {
        contender.network: partial(seconds_of, partial(contender.run, image))
        for contender in contenders_for(checkpoint, ("float32",), CPU)
    }


def of_file(file: str, size: int, pictures: int) -> Timers:
    """A model of another architecture, picture by picture, and as a ``Restorer`` runs it."""
    model = ModelLoader().load_from_file(file)
    assert isinstance(model, ImageModelDescriptor)
    images = sample(model.input_channels, size, size).movedim(1, -1).repeat(pictures, 1, 1, 1)
    restore = Restorer(ForeignModel(model), CPU, torch.float32)

    def one_by_one() -> torch.Tensor:
        return torch.cat([model(image[None]) for image in images.movedim(-1, 1)])

    return {
        "spandrel": partial(seconds_of, one_by_one),
        "swinir": partial(seconds_of, partial(restore, images)),
    }


def measure(model: str, timers: Timers, args: Namespace) -> list[dict[str, Any]]:
    """Time a quiet machine, then a busy one."""
    common.in_turn(timers, 1)
    quiet = common.in_turn(timers, args.rounds)
    with busy(args.programs):
        beside = common.in_turn(timers, args.rounds)
    results = [
        {
            "model": model,
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
            f"{model} {result['network']:<10}{median(result['quiet_seconds']):8.3f} s quiet"
            f"{median(result['busy_seconds']):8.3f} s busy, {result['slower']:.2f} times as long; "
            f"times faster {result['times_faster_quiet']:.2f} and {result['times_faster_busy']:.2f}"
        )
    return results


def seconds_of(run: Callable[[], torch.Tensor]) -> float:
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
