"""Our network beside spandrel's on the images that the project's targets are about.

    python -m benchmarks.speed.against_spandrel --threads 2 --json benchmarks/results/cpu.json
    python -m benchmarks.speed.against_spandrel --device cuda --json benchmarks/results/cuda.json

``swinir benchmark`` measures a model of your own in the same way.
"""

from __future__ import annotations

import torch

from benchmarks import common
from swinir_core.benchmark.measuring import Case, report, run_cases
from swinir_core.choices import PRECISIONS
from swinir_core.cli.benchmark import text
from swinir_core.cli.options import UsageError
from swinir_core.cli.output import write_report
from swinir_core.cli.processes import find_device

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
    parser = common.parser(__doc__)
    common.add_threads(parser)
    add = parser.add_argument
    add("--device", choices=CASES, default="cpu")
    add("--precision", choices=PRECISIONS, nargs="+", default=["float32", "bfloat16"])
    add("--rounds", type=int, default=5)
    add("--largest", type=int, default=1920, metavar="N", help="leave out larger images")
    args = parser.parse_args()
    try:
        device = torch.device(find_device(args.device))
    except UsageError as error:
        parser.error(str(error))
    cases = [case for case in CASES[args.device] if max(case.width, case.height) <= args.largest]
    results = run_cases(cases, args.precision, device, args.rounds)
    facts = report(common.command(), results, device, args.rounds)
    write_report(args.json, text(facts, results), facts)


if __name__ == "__main__":
    main()
