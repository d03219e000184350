"""``swinir benchmark``: our network beside spandrel's on this machine."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WriteError
from ..files import check_target, replacing
from ..text import shown
from .restore import PRECISIONS, find_device, not_empty

if TYPE_CHECKING:
    from ..benchmark.measuring import Result

STDOUT = "-"
_EXAMPLES = """\
examples:
  swinir benchmark
  swinir benchmark --model lightweight_sr_x2 --size 128 256 640x480 --threads 2
  swinir benchmark --model my_swinir.pth --device cuda --json results.json
"""


def add_benchmark(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "benchmark",
        help="measure time and memory on this machine",
        description=(
            "Measure time, memory and exactness of a model beside spandrel, which most programs "
            "use: same weights, same image, one process, in turn."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    add(
        "--model",
        type=not_empty,
        help="bundled model, model file, or a published configuration with random weights "
        "(default: see swinir models)",
    )
    add(
        "--size",
        type=_size,
        nargs="+",
        default=[(128, 128), (256, 256)],
        metavar="N|WxH",
        help="image sizes in pixels (default: 128 256)",
    )
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, xpu, mps ...")
    add(
        "--precision",
        choices=PRECISIONS,
        nargs="+",
        default=["float32", "bfloat16"],
        help="of the arithmetic (default: float32 bfloat16)",
    )
    add("--threads", type=_count, metavar="N", help="CPU threads (default: as torch chooses)")
    add("--rounds", type=_count, default=5, metavar="N", help="timed runs of each (default: 5)")
    add(
        "--only",
        choices=("time", "memory"),
        help="leave out the other, and its runs: for images that take minutes",
    )
    add("--json", type=json_argument, metavar="FILE", help="write everything there, or to - alone")
    command.set_defaults(run=benchmark)


def benchmark(args: argparse.Namespace) -> int:
    """Measure one model on every size and print the table."""
    import torch
    from tqdm import tqdm

    from ..benchmark.measuring import Case, report, run_cases
    from ..checkpoints.models import DEFAULT_MODEL

    device = torch.device(find_device(args.device))
    if args.threads:
        torch.set_num_threads(args.threads)
    model = args.model or DEFAULT_MODEL
    precisions = list(dict.fromkeys(args.precision))
    cases = [Case(model, width, height) for width, height in dict.fromkeys(args.size)]
    rounds = 0 if args.only == "memory" else args.rounds
    results = run_cases(cases, precisions, device, rounds, memory=args.only != "time")
    command = [
        *("swinir", "benchmark", "--model", model, "--size"),
        *(f"{case.width}x{case.height}" for case in cases),
        *("--device", str(device), "--precision", *precisions),
        *("--threads", str(torch.get_num_threads()), "--rounds", str(args.rounds)),
        *(("--only", args.only) if args.only else ()),
    ]
    facts = report(shlex.join(command), results, device, rounds)
    if args.json != STDOUT:
        tqdm.write(text(facts, results))
    if args.json:
        write_json(args.json, facts)
    return 0


def text(facts: dict[str, Any], results: Sequence[Result]) -> str:
    """What was measured, as a heading and an aligned table."""
    machine, versions = facts["machine"], facts["versions"]
    on = [
        f"{machine['processor']} (cores: {machine['cores']}, threads: {machine['threads']}, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB)"
    ]
    if machine["device"] != "cpu":
        on.insert(0, machine["device"])
    rate = machine.get("bfloat16_gemm_teraflops")
    heading = [
        "; ".join([*on, *(f"{name} {version}" for name, version in versions.items())]),
        f"medians of rounds: {facts['rounds']}; times faster than, and output compared with, "
        f"{facts['reference']}",
    ]
    if rate is not None:
        heading.append(f"one large bfloat16 product: {rate:.0f} TFLOP/s")
    rows = [_row(result) for result in results]
    shown = [n for n, column in enumerate(zip(*rows, strict=True)) if any(column)]
    lines = _aligned([[row[n] for n in shown] for row in (_COLUMNS, *rows)])
    return "\n".join([*heading, "", *lines])


_COLUMNS = (
    *("model", "image", "network", "precision", "seconds", "times faster", "megapixels/s"),
    *("of product", "peak memory", "estimated", "output"),
)


def _row(result: Result) -> tuple[str, ...]:
    def shown(value: float | None, form: str) -> str:
        return "" if value is None else form.format(value)

    difference = shown(result.max_difference, "within {:.1e}")
    decibels = shown(result.psnr, ", {:.1f} dB")
    return (
        result.model,
        f"{result.width}x{result.height}",
        result.network,
        result.precision,
        shown(result.median_seconds, "{:.4f}"),
        shown(result.times_faster, "{:.2f}"),
        shown(result.megapixels_per_second, "{:.3g}"),
        shown(result.gemm_share, "{:.1%}"),
        *(
            shown(None if size is None else size / 1e6, "{:.1f} MB")
            for size in (result.peak_bytes, result.estimated_bytes)
        ),
        result.failure or difference + decibels,
    )


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of equal width: names to the left, numbers to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    names = [column[0] in ("model", "network", "precision", "output") for column in columns]
    return [
        "  ".join(
            cell.ljust(width) if name else cell.rjust(width)
            for cell, width, name in zip(row, widths, names, strict=True)
        ).rstrip()
        for row in rows
    ]


def write_json(target: str, facts: dict[str, Any]) -> None:
    """Write ``facts`` to the file ``target``, or to stdout where that is ``-``.

    Raises ``WriteError``.
    """
    from tqdm import tqdm

    content = json.dumps(facts, indent=2, allow_nan=False)
    if target == STDOUT:
        tqdm.write(content)
    else:
        with replacing(Path(target)) as part:
            part.write_text(content + "\n", "utf-8")


def json_argument(name: str) -> str:
    """Argument type: a .json file that can be written, known before minutes are spent on it."""
    path = Path(not_empty(name))
    if name == STDOUT:
        return name
    if path.suffix.lower() != ".json":
        raise argparse.ArgumentTypeError(f"the name must end in .json, or be -, not {name!r}")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {shown(path.parent)!r}")
    try:
        check_target(path)
    except WriteError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name


def _size(text: str) -> tuple[int, int]:
    """(width, height) of ``N`` or ``WxH``."""
    found = re.fullmatch(r"([1-9]\d{0,5})(?:x([1-9]\d{0,5}))?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"must be a side or WIDTHxHEIGHT in pixels, not {text!r}")
    return int(found[1]), int(found[2] or found[1])


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise argparse.ArgumentTypeError(f"must be a number of at least 1, not {text!r}")
    return int(text)
