"""Time, memory and exactness of our network beside spandrel's, which most programs run.

All networks have the same weights and see the same photograph, in one process and in turn, so that
other load of the machine slows them alike. Each runs first on a small image, to warm up; then once
on the whole one to count its memory; then in timed rounds. The first outputs are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from statistics import median
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from ..devices import free_memory, is_out_of_memory
from ..errors import PrecisionError
from ..images.metrics import psnr
from ..network.config import SwinIRConfig
from ..restoration.peak_memory import count_memory
from .contenders import OURS, Contender, contenders_for, sample, small_image, weights_named
from .counting import multiply_adds
from .machine import describe, gemm_rate, time_run


@dataclass(frozen=True)
class Case:
    """One model on one image size."""

    model: str
    """A preset, which gets random weights; a bundled model; or a file."""

    width: int
    height: int


@dataclass
class Result:
    """Measurements of one network in one precision on one case."""

    model: str
    width: int
    height: int
    network: str
    """``swinir`` is ours."""

    precision: str
    seconds: list[float] = field(default_factory=list)
    """Time of one forward pass in each round."""

    median_seconds: float | None = None
    times_faster: float | None = None
    """Median of the reference (spandrel in float32) over ``median_seconds``."""

    megapixels_per_second: float | None = None
    """Input pixels by ``median_seconds``."""

    teraflops_per_second: float | None = None
    """Two operations for every multiply-add of convolutions, linear layers and attention products,
    those on padding included."""

    gemm_share: float | None = None
    """``teraflops_per_second`` over the rate of one large bfloat16 product; on CUDA only."""

    peak_bytes: int | None = None
    """Growth of the memory during one forward pass; weights and input are not counted."""

    estimated_bytes: int | None = None
    """Growth that ``estimate_memory`` expects; of our network only."""

    max_difference: float | None = None
    """Largest difference from the output of the reference, in 0..1."""

    psnr: float | None = None
    """Against the output of the reference, in dB; ``None`` where they are equal."""

    failure: str = ""
    """Sentence that says why numbers are missing."""


def run_cases(
    cases: Sequence[Case],
    precisions: Sequence[str],
    device: torch.device,
    rounds: int,
    memory: bool = True,
) -> list[Result]:
    """Measure every case, under a progress bar on stderr.

    Args:
        cases: models and image sizes.
        precisions: of ``float32``, ``bfloat16`` and ``float16``, in which both networks run;
            spandrel's also runs in float32, which is the reference.
        device: for weights and images.
        rounds: timed runs of each network.
        memory: whether one run before the rounds counts the memory.

    Returns:
        Results case by case. Runs that do not fit the memory, and networks that spandrel cannot
        hold, have a ``failure``.

    Raises:
        CheckpointError: a model cannot be read.
    """
    checkpoints = {name: weights_named(name) for name in dict.fromkeys(c.model for c in cases)}
    contenders = {
        name: contenders_for(checkpoint, precisions, device)
        for name, checkpoint in checkpoints.items()
    }
    results: list[Result] = []
    runs = sum(len(contenders[case.model]) for case in cases) * (memory + rounds)
    with tqdm(total=runs, unit="run", disable=None) as bar:
        for case in cases:
            bar.set_description(f"{case.model} {case.width}x{case.height}")
            config, networks = checkpoints[case.model].config, contenders[case.model]
            results += measure(case, config, networks, device, rounds, memory, bar.update)
    return results


def report(
    command: str,
    results: Sequence[Result],
    device: torch.device,
    rounds: int,
    reference: str = "spandrel in float32",
) -> dict[str, Any]:
    """A measurement as plain values for a JSON file.

    On CUDA with timed rounds it also measures the rate of one large product, and fills in the
    ``gemm_share`` of ``results``.

    Args:
        command: that repeats the measurement.
        results: as ``run_cases`` or ``measure`` returns them.
        device: that was measured.
        rounds: timed runs of each network.
        reference: network and precision of the first contender.
    """
    facts = describe(device)
    if device.type == "cuda" and rounds:
        rate = facts["machine"]["bfloat16_gemm_teraflops"] = gemm_rate(device) / 1e12
        for result in results:
            if result.teraflops_per_second is not None:
                result.gemm_share = result.teraflops_per_second / rate
    cases = [asdict(result) for result in results]
    return {"command": command, **facts, "rounds": rounds, "reference": reference, "cases": cases}


@torch.inference_mode()
def measure(
    case: Case,
    config: SwinIRConfig,
    contenders: Sequence[Contender],
    device: torch.device,
    rounds: int,
    memory: bool = True,
    ran: Callable[[], object] = lambda: None,
) -> list[Result]:
    """Run all contenders on one image, in turn.

    Args:
        case: model, for its name, and image size.
        config: of the model.
        contenders: networks with the weights of the model; the first is the reference.
        device: whose time and memory are measured.
        rounds: timed runs of each network.
        memory: whether one run before the rounds counts the memory.
        ran: called after every run on the image, failed ones too.

    Returns:
        One result for each contender.
    """
    # Made for the first contender that fits: where none does, it might not fit either.
    image = cache(partial(sample, config.in_channels, case.height, case.width))
    pairs = [
        (c, Result(case.model, case.width, case.height, c.network, c.precision)) for c in contenders
    ]
    for contender, result in pairs:
        with _failing_into(result):
            _check_fits(contender, result)
            contender.run(small_image(config).to(contender.device, contender.dtype))
    reference = None
    for number in range(memory + rounds):
        for contender, result in pairs:
            if not result.failure:
                with _failing_into(result):
                    run = partial(contender.run, image().to(contender.device, contender.dtype))
                    if memory and number == 0:
                        result.peak_bytes, output = count_memory(run, device)
                    else:
                        seconds, output = time_run(run, device)
                        result.seconds.append(seconds)
                    if number == 0 and contender is contenders[0]:
                        reference = output.float().cpu()
                    elif number == 0 and reference is not None:
                        _compare(result, output.float().cpu(), reference)
                    del output
            ran()
    results = [result for _, result in pairs]
    _summarise(results, 2 * multiply_adds(config, case.height, case.width))
    return results


def _check_fits(contender: Contender, result: Result) -> None:
    """Raise ``MemoryError`` where a run will not fit the memory of the CPU. The system would hand
    out more than it has and then end the process, where other devices raise an exception."""
    if contender.bytes_needed is None:
        return
    needed = contender.bytes_needed(result.height, result.width)
    if contender.network == OURS:
        result.estimated_bytes = needed
    free = free_memory(contender.device)
    if contender.device.type == "cpu" and needed > free:
        raise MemoryError(f"needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")


def _compare(result: Result, output: Tensor, reference: Tensor) -> None:
    if not output.isfinite().all():
        raise PrecisionError(f"the output is not finite in {result.precision}")
    result.max_difference = (output - reference).abs().max().item()
    decibels = psnr(output[0].movedim(0, -1), reference[0].movedim(0, -1))
    result.psnr = decibels if math.isfinite(decibels) else None


def _summarise(results: Sequence[Result], operations: int) -> None:
    """Fill in the numbers that follow from the seconds of one case; the first is the reference."""
    for result in results:
        if result.seconds:
            seconds = result.median_seconds = median(result.seconds)
            result.megapixels_per_second = result.width * result.height / 1e6 / seconds
            result.teraflops_per_second = operations / 1e12 / seconds
            if results[0].median_seconds is not None:
                result.times_faster = results[0].median_seconds / seconds


@contextmanager
def _failing_into(result: Result) -> Iterator[None]:
    """Turn out of memory, and any exception of spandrel's network, into the result's failure."""
    try:
        yield
    except Exception as error:
        expected = isinstance(error, PrecisionError) or is_out_of_memory(error)
        if result.network == OURS and not expected:
            raise
        # Only the first sentence: CUDA's message about memory fills a screen.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        result.failure = lines[0].split(". ")[0].rstrip(".")
    if result.failure and torch.cuda.is_available():
        torch.cuda.empty_cache()
