"""``swinir benchmark``: our network beside spandrel's on this machine."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from typing import Any

import torch

from ..benchmark.measuring import Case, Result, report, run_cases
from ..model_names import DEFAULT_MODEL
from .output import aligned, write_report
from .processes import find_device


def benchmark(args: argparse.Namespace) -> int:
    """Measure one model on every size and print the table."""
    device = torch.device(find_device(args.device))
    if args.threads:
        torch.set_num_threads(args.threads)
    model = args.model or DEFAULT_MODEL
    precisions = list(dict.fromkeys(args.precision))
    cases = [Case(model, width, height) for width, height in dict.fromkeys(args.size)]
    rounds = 0 if args.only == "memory" else args.rounds
    results = run_cases(cases, precisions, device, rounds, memory=args.only != "time")
    command = ["swinir", "benchmark", "--model", model, "--size"]
    command += [f"{case.width}x{case.height}" for case in cases]
    command += ["--device", str(device), "--precision", *precisions]
    command += ["--threads", str(torch.get_num_threads()), "--rounds", str(args.rounds)]
    command += ["--only", args.only] if args.only else []
    facts = report(shlex.join(command), results, device, rounds)
    write_report(args.json, text(facts, results), facts)
    return 0


def text(facts: dict[str, Any], results: Sequence[Result]) -> str:
    """The facts of ``report`` and its results as a heading and an aligned table; columns without
    any value are left out."""
    machine, versions = facts["machine"], facts["versions"]
    on = [] if machine["device"] == "cpu" else [machine["device"]]
    on.append(
        f"{machine['processor']} (cores: {machine['cores']}, threads: {machine['threads']}, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB)"
    )
    on += [f"{name} {version}" for name, version in versions.items()]
    heading = [
        "; ".join(on),
        f"medians of rounds: {facts['rounds']}; times faster than, and output compared with, "
        f"{facts['reference']}",
    ]
    if rate := machine.get("bfloat16_gemm_teraflops"):
        heading.append(f"one large bfloat16 product: {rate:.0f} TFLOP/s")
    rows = [_row(result) for result in results]
    filled = [name for name in rows[0] if any(row[name] for row in rows)]
    cells = [filled, *([row[name] for name in filled] for row in rows)]
    lines = aligned(cells, left=("model", "network", "precision", "output"))
    return "\n".join([*heading, "", *lines])


def _row(result: Result) -> dict[str, str]:
    """The cells of a line by their headings."""

    def cell(value: float | None, form: str, divisor: float = 1) -> str:
        return "" if value is None else form.format(value / divisor)

    difference = cell(result.max_difference, "within {:.1e}") + cell(result.psnr, ", {:.1f} dB")
    return {
        "model": result.model,
        "image": f"{result.width}x{result.height}",
        "network": result.network,
        "precision": result.precision,
        "seconds": cell(result.median_seconds, "{:.4f}"),
        "times faster": cell(result.times_faster, "{:.2f}"),
        "megapixels/s": cell(result.megapixels_per_second, "{:.3g}"),
        "of product": cell(result.gemm_share, "{:.1%}"),
        "peak memory": cell(result.peak_bytes, "{:.1f} MB", 1e6),
        "estimated": cell(result.estimated_bytes, "{:.1f} MB", 1e6),
        "output": result.failure or difference,
    }
