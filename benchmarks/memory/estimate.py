"""Estimated memory beside counted bytes, over models, sizes and types.

    python -m benchmarks.memory.estimate --threads 2 --json benchmarks/results/memory-estimate.json

Networks are cut to two blocks of their depth, which changes neither number: blocks run one after
another over the same memory.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks import common
from swinir_core import PRESETS, SwinIR, estimate_memory
from swinir_core.restoration.peak_memory import PeakMemory

CASES = [
    *(("lightweight_sr_x2", 1, 64, 64, "float32"), ("lightweight_sr_x2", 1, 128, 100, "float32")),
    *(("lightweight_sr_x2", 1, 256, 256, "float32"), ("lightweight_sr_x2", 1, 64, 64, "bfloat16")),
    *(("lightweight_sr_x4", 2, 64, 64, "float32"), ("lightweight_sr_x4", 1, 200, 120, "bfloat16")),
    *(("classical_sr_x2", 1, 90, 130, "bfloat16"), ("classical_sr_x3", 1, 32, 32, "float32")),
    *(("classical_sr_x3", 2, 64, 64, "float32"), ("classical_sr_x4", 1, 64, 64, "float32")),
    *(("classical_sr_x4", 1, 128, 128, "float32"), ("classical_sr_x4", 1, 128, 128, "bfloat16")),
    *(("classical_sr_x4", 1, 200, 80, "float32"), ("classical_sr_x8", 1, 32, 32, "float32")),
    *(("real_sr_x2", 1, 64, 64, "float32"), ("real_sr_x4", 1, 64, 64, "float32")),
    *(("real_sr_x4", 1, 70, 90, "bfloat16"), ("real_sr_large_x4", 1, 32, 32, "float32")),
    *(("color_jpeg", 1, 50, 63, "float32"), ("color_denoise", 1, 64, 64, "float32")),
    *(("gray_denoise", 1, 128, 128, "bfloat16"), ("gray_denoise", 1, 50, 30, "bfloat16")),
]


def main() -> None:
    parser = common.parser(__doc__)
    common.add_threads(parser)
    args = parser.parse_args()
    results = []
    for model, batch, height, width, precision in CASES:
        dtype: torch.dtype = getattr(torch, precision)
        config = PRESETS[model]
        config = replace(config, depths=config.depths[:2], num_heads=config.num_heads[:2])
        network = SwinIR(config, dtype=dtype).eval()
        x = torch.rand(batch, config.in_channels, height, width, dtype=dtype)
        with torch.inference_mode(), PeakMemory() as memory:
            network(x)
        estimate = estimate_memory(config, height, width, batch, dtype)
        case = {"model": model, "batch": batch, "height": height, "width": width}
        case |= {"precision": precision, "counted_bytes": memory.peak, "estimated_bytes": estimate}
        results.append(case | {"ratio": round(estimate / memory.peak, 3)})
        print(f"{model:<20}{batch} x {width}x{height} {precision:<9}{estimate / memory.peak:7.3f}")
    common.write(args.json, {"results": results})


if __name__ == "__main__":
    main()
