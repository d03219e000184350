"""Our network beside spandrel's on the images that the project's targets are about.

    python -m benchmarks.speed.against_spandrel --threads 2 --json benchmarks/results/cpu.json
    python -m benchmarks.speed.against_spandrel --device cuda --json benchmarks/results/cuda.json

What is measured, and how, is what ``swinir benchmark`` measures for a model of your own.
"""

from __future__ import annotations

import argparse
import shlex

import torch

from swinir_core.benchmark.measuring import Case, report, run_cases
from swinir_core.cli.benchmark import json_argument, text, write_json
from swinir_core.cli.restore import PRECISIONS, UsageError, find_device

CASES = {
    "cpu": [
        Case("lightweight_sr_x2", 128, 128),
        Case("lightweight_sr_x2", 256, 256),
        Case("classical_sr_x4", 128, 128),
        Case("lightweight_sr_x2", 1024, 1024),
    ],
    "cuda": [
        Case("lightweight_sr_x2", 640, 480),
        Case("lightweight_sr_x2", 1024, 1024),
        Case("classical_sr_x4", 640, 480),
        Case("classical_sr_x4", 1024, 1024),
        Case("color_denoise", 1920, 1080),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--device", choices=CASES, default="cpu")
    add("--threads", type=int, default=torch.get_num_threads())
    add("--precision", choices=PRECISIONS, nargs="+", default=["float32", "bfloat16"])
    add("--rounds", type=int, default=5)
    add("--largest", type=int, default=1920, metavar="N", help="leave out larger images")
    add("--json", type=json_argument, metavar="FILE")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    try:
        device = torch.device(find_device(args.device))
    except UsageError as error:
        parser.error(str(error))
    cases = [case for case in CASES[args.device] if max(case.width, case.height) <= args.largest]
    results = run_cases(cases, args.precision, device, args.rounds)
    command = [
        *("python", "-m", "benchmarks.speed.against_spandrel", "--device", args.device),
        *("--threads", str(args.threads), "--precision", *args.precision),
        *("--rounds", str(args.rounds), "--largest", str(args.largest)),
    ]
    facts = report(shlex.join(command), results, device, args.rounds)
    print(text(facts, results))
    if args.json:
        write_json(args.json, facts)


if __name__ == "__main__":
    main()
