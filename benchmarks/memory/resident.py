"""Estimated memory beside the growth of the process that runs the network, on Linux.

    python -m benchmarks.memory.resident --threads 2 --json benchmarks/results/memory-resident.json

Every case in a fresh process, which has first run the smallest image, so that libraries have their
code and buffers, and given back to the system what loading has freed. The growth is that of the
largest resident set during the run; where a process has free memory it grows by less. Other
architectures are files, measured as the node does it.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import torch
from spandrel import ImageModelDescriptor, ModelLoader

from benchmarks import common
from benchmarks.common import CPU
from swinir_core.benchmark.contenders import sample, weights_named
from swinir_core.checkpoints.models import build_model
from swinir_core.reports import to_nobody
from swinir_core.restoration.foreign_model import ForeignModel
from swinir_core.restoration.image_model import ImageModel

CASES = [
    *(("lightweight_sr_x2", 1, 128, 128), ("lightweight_sr_x2", 1, 256, 256)),
    *(("lightweight_sr_x2", 4, 96, 160), ("lightweight_sr_x4", 1, 300, 500)),
    *(("classical_sr_x4", 1, 128, 128), ("classical_sr_x2", 1, 200, 240)),
    *(("real_sr_x4", 1, 160, 128), ("real_sr_large_x4", 1, 96, 96)),
    *(("color_denoise", 1, 256, 192), ("gray_denoise", 4, 96, 96), ("color_jpeg", 1, 210, 259)),
    *(("upscale_x4_light", 1, 512, 512), ("real_x4_light", 1, 256, 256)),
    *(("real_x4_light", 4, 128, 128), ("denoise_color_light", 1, 768, 1024)),
]
"""Those that the constants of the estimate were fitted to."""

OTHERS = [
    *(("lightweight_sr_x3", 1, 170, 310), ("lightweight_sr_x4", 3, 120, 90)),
    *(("classical_sr_x3", 1, 150, 100), ("classical_sr_x8", 1, 80, 112)),
    *(("real_sr_x2", 1, 220, 180), ("real_sr_large_x4", 1, 70, 190)),
    *(("gray_jpeg", 1, 300, 230), ("color_denoise", 2, 120, 200)),
    *(("upscale_x2_light", 4, 150, 150), ("upscale_x2_light", 1, 600, 800)),
    *(("real_x4_light", 1, 480, 640), ("jpeg_color_light", 1, 400, 700)),
    *(("denoise_gray_light", 4, 256, 256), ("denoise_gray_light", 1, 200, 160)),
]
"""Those that it is judged by."""

FILE_SIZES = [(1, 96, 96), (1, 128, 192), (1, 256, 256), (1, 300, 220), (2, 128, 128)]
"""Of models of other architectures."""


def main() -> None:
    parser = common.parser(__doc__)
    common.add_threads(parser)
    parser.add_argument("--others", action="store_true", help="cases that it was not fitted to")
    parser.add_argument("--files", nargs="+", metavar="FILE", help="other architectures instead")
    parser.add_argument("--case", nargs=4, help="run one case in this process")
    args = parser.parse_args()
    if args.case:
        model, *numbers = args.case
        print(json.dumps(measure(model, *map(int, numbers))))
        return
    cases = OTHERS if args.others else CASES
    if args.files:
        cases = [(file, *size) for file in args.files for size in FILE_SIZES]
    results = []
    for case in cases:
        command = [sys.executable, "-m", "benchmarks.memory.resident", "--threads"]
        command += [str(torch.get_num_threads()), "--case", *map(str, case)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        results.append(json.loads(done.stdout))
        print("{model:<20}{batch} x {width}x{height}  {ratio:6.3f}".format(**results[-1]))
    common.write(args.json, {"results": results})


@torch.inference_mode()
def measure(name: str, batch: int, height: int, width: int) -> dict[str, object]:
    """Run one case; the growth of this process beside the estimate, both in bytes."""
    model = load(name)
    image = sample(model.in_channels, height, width).expand(batch, -1, -1, -1).contiguous()
    model(sample(model.in_channels, model.alignment, model.alignment))
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # Gives back what loading has freed.
    Path("/proc/self/clear_refs").write_text("5")  # Forgets the largest resident set so far.
    before = status("VmRSS")
    model(image)
    grown = status("VmHWM") - before
    model.measure(torch.float32, CPU, batch * height * width, to_nobody)
    estimate = model.estimate_memory(height, width, torch.float32, CPU, batch)
    case = {"model": Path(name).name, "batch": batch, "height": height, "width": width}
    return {**case, "grown": grown, "estimate": estimate, "ratio": round(estimate / grown, 3)}


def load(name: str) -> ImageModel:
    """Load a preset with random weights, a bundled model, or a file of another architecture."""
    if not Path(name).suffix:
        return build_model(weights_named(name), CPU, torch.float32)
    descriptor = ModelLoader("cpu").load_from_file(name).eval()
    assert isinstance(descriptor, ImageModelDescriptor)
    return ForeignModel(descriptor)


def status(field: str) -> int:
    """Bytes that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
