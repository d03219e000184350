"""Estimated bytes of tensors beside counted ones, over models, sizes and types.

    python -m benchmarks.memory.estimate --threads 2 --json benchmarks/results/memory-estimate.json

Networks are cut to two blocks of their depth, which changes neither number: blocks run one after
another over the same memory.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch

from benchmarks import common
from benchmarks.common import CPU
from swinir_core import PRESETS, SwinIR
from swinir_core.network.memory import Parts
from swinir_core.restoration.peak_memory import count_memory

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
    for case in CASES:
        results.append(result := compare(*case))
        print(line(result))
    common.write(args.json, {"results": results})


@torch.inference_mode()
def compare(
    model: str, batch: int, height: int, width: int, precision: str, device: torch.device = CPU
) -> dict[str, Any]:
    """Count the memory of one forward pass, by ``count_memory``, and estimate it."""
    dtype: torch.dtype = getattr(torch, precision)
    config = PRESETS[model]
    config = replace(config, depths=config.depths[:2], num_heads=config.num_heads[:2])
    network = SwinIR(config, device=device, dtype=dtype).eval()
    x = torch.rand(batch, config.in_channels, height, width, dtype=dtype, device=device)
    if device.type == "cuda":
        network(x)  # The first run also makes what libraries keep for themselves.
    counted, _ = count_memory(partial(network, x), device)
    estimate = Parts.of(config, height, width, batch, dtype, device).alive
    case = {"model": model, "batch": batch, "height": height, "width": width}
    case |= {"precision": precision, "counted_bytes": counted, "estimated_bytes": estimate}
    return case | {"ratio": round(estimate / counted, 3)}


def line(result: dict[str, Any]) -> str:
    """A result of ``compare`` as a line of a table."""
    size = f"{result['batch']} x {result['width']}x{result['height']}"
    return f"{result['model']:<20}{size} {result['precision']:<9}{result['ratio']:7.3f}"


if __name__ == "__main__":
    main()
