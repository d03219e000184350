"""Estimated memory beside the growth of the process that runs the network, on Linux.

    python -m benchmarks.memory.resident --threads 2 --json benchmarks/results/memory-resident.json

Every case in a fresh process, which first runs one window, so that libraries have their buffers.
The growth is that of the largest resident set during the run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks import common
from benchmarks.common import CPU
from swinir_core.benchmark.contenders import sample, weights_named
from swinir_core.checkpoints.models import build_model

CASES = [
    *(("lightweight_sr_x2", 1, 128, 128), ("lightweight_sr_x2", 1, 256, 256)),
    *(("lightweight_sr_x2", 4, 96, 160), ("lightweight_sr_x4", 1, 300, 500)),
    *(("classical_sr_x4", 1, 128, 128), ("classical_sr_x2", 1, 200, 240)),
    *(("real_sr_x4", 1, 160, 128), ("real_sr_large_x4", 1, 96, 96)),
    *(("color_denoise", 1, 256, 192), ("gray_denoise", 4, 96, 96), ("color_jpeg", 1, 210, 259)),
    *(("upscale_x4_light", 1, 512, 512), ("real_x4_light", 1, 256, 256)),
    *(("real_x4_light", 4, 128, 128), ("denoise_color_light", 1, 768, 1024)),
]


def main() -> None:
    parser = common.parser(__doc__)
    common.add_threads(parser)
    parser.add_argument("--only", metavar="MODEL", help="cases of one model")
    parser.add_argument("--case", nargs=4, help="run one case in this process")
    args = parser.parse_args()
    if args.case:
        model, *numbers = args.case
        print(json.dumps(measure(model, *map(int, numbers))))
        return
    results = []
    for case in CASES:
        if args.only in (None, case[0]):
            command = [sys.executable, "-m", "benchmarks.memory.resident", "--threads"]
            command += [str(torch.get_num_threads()), "--case", *map(str, case)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
            results.append(json.loads(done.stdout))
            print("{model:<20}{batch} x {width}x{height}  {ratio:6.3f}".format(**results[-1]))
    common.write(args.json, {"results": results})


@torch.inference_mode()
def measure(model: str, batch: int, height: int, width: int) -> dict[str, object]:
    """Run one case; the growth of this process beside the estimate, both in bytes."""
    checkpoint = weights_named(model)
    network = build_model(checkpoint, CPU, torch.float32)
    channels, side = checkpoint.config.in_channels, checkpoint.config.alignment
    image = sample(channels, height, width).expand(batch, -1, -1, -1).contiguous()
    network(sample(channels, side, side))
    Path("/proc/self/clear_refs").write_text("5")  # Forgets the largest resident set so far.
    before = status("VmRSS")
    network(image)
    grown = status("VmHWM") - before
    estimate = network.estimate_memory(height, width, torch.float32, CPU, batch)
    case = {"model": model, "batch": batch, "height": height, "width": width}
    return {**case, "grown": grown, "estimate": estimate, "ratio": round(estimate / grown, 3)}


def status(field: str) -> int:
    """Bytes that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
