"""The parts of the day. Each prints its table and yields what its JSON file is to hold, once or as
it grows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import nn

from benchmarks import common
from benchmarks.memory import estimate
from swinir_core import PRESETS, Restorer, TileSettings
from swinir_core.benchmark.contenders import THEIRS, random_checkpoint, sample
from swinir_core.benchmark.machine import copy_rate, describe, gemm_rate, time_run
from swinir_core.benchmark.measuring import Case, Result, measure, report
from swinir_core.checkpoints.checkpoint import Checkpoint
from swinir_core.checkpoints.models import build_model
from swinir_core.choices import PRECISIONS
from swinir_core.cli.benchmark import text
from swinir_core.cli.output import write_json
from swinir_core.cli.processes import find_device
from swinir_core.restoration.peak_memory import count_memory

from .contenders import TILED, ours_by_every_path, tiled

LIGHT, MEDIUM, LARGE = "lightweight_sr_x2", "classical_sr_x4", "real_sr_large_x4"
WINDOWS = ((8, 10), (8, 30), (7, 30), (8, 32))
"""Sides of windows and channels of heads of the official models, and of others."""

ROUNDS = 3


@dataclass
class Day:
    """Device, size and time limit of the parts, and results that later parts use."""

    device: torch.device
    rehearsal: bool
    """True for shapes that are as small as the interpreter of Triton on a CPU needs."""

    ends: float
    """When no further run is begun, by ``monotonic``."""

    before: Collection[Result] = ()
    """Results of ``times`` to go on with."""

    kernels: set[str] = field(default_factory=set)
    """Precisions in which the kernel works, from ``self_check``."""

    @classmethod
    def begun(cls, device: str, ends: float) -> Day:
        """A day on the first device of a kind. Raises ``UsageError`` where there is none."""
        return cls(torch.device(find_device(device)), device == "cpu", ends)

    def go_on_with(self, facts: dict[str, Any]) -> None:
        """Keep what ``times`` has yielded. Raises ``ValueError`` for that of another machine."""
        if facts["machine"]["device"] != describe(self.device)["machine"]["device"]:
            raise ValueError("the times there are of another machine; choose another --out.")
        self.before = [Result(**case) for case in facts["cases"]]

    def write(self, path: Path, facts: dict[str, Any]) -> None:
        """Write what a part has yielded, with the command and the machine."""
        facts = {"command": common.command(), **describe(self.device), **facts}
        write_json(str(path), facts)

    def weights(self, model: str) -> Checkpoint:
        """Random weights of a preset; for a rehearsal of two layers of one head."""
        config = PRESETS[model]
        if self.rehearsal:
            dim = config.embed_dim // config.num_heads[0]
            config = replace(config, embed_dim=dim, depths=(2,), num_heads=(1,))
        return random_checkpoint(config)

    def check(self, seconds: float = 0) -> None:
        """Raise ``TimeoutError`` where fewer ``seconds`` are left."""
        if monotonic() + seconds > self.ends:
            raise TimeoutError


def self_check(day: Day) -> Iterator[dict[str, Any]]:
    """The kernel beside plain torch in float64, by type, window and head; compiles it."""
    found, day.kernels = dict[str, str](), set[str](PRECISIONS)
    for precision, (size, head_dim) in product(PRECISIONS, WINDOWS[: 1 if day.rehearsal else None]):
        name = f"{precision}, window {size}, head {head_dim}"
        try:
            from swinir_core.network.attention.triton_check import check

            check(day.device, getattr(torch, precision), size, head_dim)
            found[name] = "right"
        except Exception as error:  # No Triton; whatever a compiler or a driver has to say.
            found[name] = f"{type(error).__name__}: {error}"
            day.kernels.discard(precision)
        print(f"{name:<30}{found[name]}")
    yield {"found": found, "kernels": sorted(day.kernels)}


def ceilings(day: Day) -> Iterator[dict[str, Any]]:
    """Rates of one large product in each type, and of a copy: what the device can do at all."""
    side, size, rounds = (64, 2**16, 1) if day.rehearsal else (8192, 2**30, 20)
    rates = {
        f"{name}_gemm_teraflops": gemm_rate(day.device, side, rounds, getattr(torch, name)) / 1e12
        for name in PRECISIONS
    }
    rates["copy_gigabytes_per_second"] = copy_rate(day.device, size, rounds) / 1e9
    for name, rate in rates.items():
        print(f"{name:<30}{rate:10.2f}")
    yield rates


def parity(day: Day) -> Iterator[dict[str, Any]]:
    """Every path and precision beside spandrel in float32, all without TensorFloat-32."""
    models = (LIGHT, "color_jpeg", MEDIUM, LARGE, "gray_denoise")
    results = []
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for model in models[: 2 if day.rehearsal else None]:
            results += _measured(day, Case(model, *((16, 9) if day.rehearsal else (200, 136))), 0)
    facts = report(common.command(), results, day.device, 0)
    print(text(facts, results))
    yield facts


def memory(day: Day) -> Iterator[dict[str, Any]]:
    """Estimated memory beside that of the allocator, at ten shapes."""
    shapes = [
        *((LIGHT, 1, 480, 640, "bfloat16"), (LIGHT, 1, 1000, 700, "float32")),
        *((LIGHT, 4, 256, 256, "float16"), (LIGHT, 1, 1080, 1920, "float32")),
        *((MEDIUM, 1, 480, 640, "float32"), (MEDIUM, 1, 300, 900, "bfloat16")),
        *((MEDIUM, 4, 128, 128, "float16"), (LARGE, 1, 480, 640, "bfloat16")),
        *(("color_denoise", 1, 1080, 1920, "bfloat16"), ("color_jpeg", 1, 700, 500, "float32")),
    ]
    if day.rehearsal:
        shapes = [(model, n, h // 16, w // 16, precision) for model, n, h, w, precision in shapes]
    results = []
    for shape in shapes:
        results.append(result := estimate.compare(*shape, day.device))
        print(estimate.line(result))
    yield {"results": results}


@torch.inference_mode()
def out_of_memory(day: Day) -> Iterator[dict[str, Any]]:
    """One picture with ever less memory: the sizes that the network is run on until it fits, and
    the result beside that of the whole.

    On a GPU the allocator is given less than the whole takes, so the errors are real ones.
    """
    side = 128 if day.rehearsal else 1024
    network = build_model(day.weights(LIGHT), day.device)
    called = list[str]()
    network.register_forward_pre_hook(
        lambda _, inputs: called.append("x".join(map(str, inputs[0].shape)))
    )
    run = partial(
        Restorer(network, day.device), sample(3, side, side).movedim(1, -1), TileSettings("whole")
    )
    needed, whole = count_memory(run, day.device)
    results = []
    for share in (0.6, 0.3, 0.15):
        called.clear()
        result: dict[str, Any] = {"share": share}
        try:
            with _limited(day, network, share, needed, side**2):
                result["seconds"], restored = time_run(run, day.device)
            result["max_difference"] = (restored - whole).abs().max().item()
        except MemoryError as error:
            result["failure"] = str(error)
        results.append(result | {"called": list(called)})
        print(f"of {needed / 1e6:.0f} MB", *(f"{k} {v}" for k, v in results[-1].items()), sep=", ")
    yield {"needed_bytes": needed, "results": results}


@contextmanager
def _limited(
    day: Day, network: nn.Module, share: float, needed: int, pixels: int
) -> Iterator[None]:
    """Leave a share of the memory that is ``needed`` for an image of so many ``pixels``; where no
    allocator can be told, the network fails for a larger share of the pixels."""

    def fail(_: nn.Module, inputs: Any) -> None:
        if math.prod(inputs[0].shape[2:]) > share * pixels:
            raise torch.OutOfMemoryError("CUDA out of memory, as far as this rehearsal goes")

    if day.device.type != "cuda":
        hook = network.register_forward_pre_hook(fail)
        try:
            yield
        finally:
            hook.remove()
        return
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(day.device).total_memory
    left = torch.cuda.memory_allocated(day.device) + share * needed
    torch.cuda.set_per_process_memory_fraction(left / total, day.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, day.device)


def times(day: Day) -> Iterator[dict[str, Any]]:
    """Light, M and L at three sizes, whole and in the host's tiles, the smallest first; what there
    is so far after each case.

    A case is expected to take as long for a pixel as the last of its model did; those for which no
    time is left are named.
    """
    sizes = ((8, 8), (16, 9)) if day.rehearsal else ((640, 480), (1024, 1024), (1920, 1080))
    models = (LIGHT,) if day.rehearsal else (LIGHT, MEDIUM, LARGE)
    rounds = 1 if day.rehearsal else ROUNDS
    results, left_out = list(day.before), list[str]()
    done = {(result.model, result.width, result.height) for result in results}
    facts: dict[str, Any] = {}
    seconds_per_pixel = dict[str, float]()
    for (width, height), model in product(sizes, models):
        if (model, width, height) not in done:
            started = monotonic()
            try:
                day.check(seconds_per_pixel.get(model, 0) * width * height)
                results += _measured(day, Case(model, width, height), rounds)
            except TimeoutError:
                left_out.append(f"{model} {width}x{height}")
            else:
                seconds_per_pixel[model] = (monotonic() - started) / (width * height)
        facts = report(common.command(), results, day.device, rounds)
        yield (facts := facts | {"against_tiles": against_tiles(results), "left_out": left_out})
    print(text(facts, results))
    print("\ntimes faster than spandrel in float32 in the tiles of ComfyUI's own node:")
    for case in facts["against_tiles"]:
        print("  ".join(map(str, case.values())))
    if left_out:
        print(f"\nNo time was left for {', '.join(left_out)}: run again with --longer.")


def against_tiles(results: list[Result]) -> list[dict[str, Any]]:
    """Compare with spandrel in float32 in the host's tiles: times faster, for each case of ours."""
    tiles = {
        (result.model, result.width, result.height): result.median_seconds
        for result in results
        if result.network == TILED
    }
    found = []
    for result in results:
        theirs = tiles.get((result.model, result.width, result.height))
        if result.network not in (THEIRS, TILED) and theirs and result.median_seconds:
            case = {name: getattr(result, name) for name in ("model", "width", "height")}
            case |= {"network": result.network, "precision": result.precision}
            found.append(case | {"times_faster": round(theirs / result.median_seconds, 2)})
    return found


def _measured(day: Day, case: Case, rounds: int) -> list[Result]:
    """Time, memory and output of all networks on a case; without the time for no rounds."""
    checkpoint = day.weights(case.model)
    networks = ours_by_every_path(checkpoint, day.device, day.kernels)
    if rounds:
        networks.insert(1, tiled(networks[0], *((8, 4) if day.rehearsal else ())))
    return measure(case, checkpoint.config, networks, day.device, rounds, ran=day.check)


PARTS = (self_check, ceilings, parity, memory, out_of_memory, times)
LONGER = (self_check, times)
"""``times``, to go on with what is left of it, after the check that it needs."""
