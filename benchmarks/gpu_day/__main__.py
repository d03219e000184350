"""Everything there is to measure on a GPU, in one command of at most nine minutes.

    pip install torch numpy safetensors einops spandrel pillow psutil tqdm
    python -m benchmarks.gpu_day
    python -m benchmarks.gpu_day --longer

The first needs a build of torch for CUDA, which brings Triton along. Parts run in the order of
their length, and each writes a JSON file as it ends, so that a day cut short is not lost:
``self_check`` of the attention kernel, ``ceilings`` of products and copies, ``parity`` of every
path and precision with spandrel, estimated ``memory`` beside the allocator's, ``out_of_memory``,
and ``times`` of light, M and L beside spandrel whole and in the tiles of ComfyUI's own node. What
nine minutes leave out of the last, ``--longer`` adds to the same file, however long it takes.
``--rehearse`` runs everything on the CPU with Triton's interpreter, on networks of two layers and
shapes of a few pixels: its numbers say nothing. The interpreter does not know how to multiply
bfloat16, so there the kernel is left out, as it is wherever it fails its check.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MINUTES = 8.5
"""After which no further run is begun; the last one has the rest of the ninth minute."""


def main() -> int:
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--out", type=Path, default=Path("benchmarks/results/gpu-day"), help="folder for the JSON")
    add("--longer", action="store_true", help="go on with what nine minutes left out")
    add("--rehearse", action="store_true", help="on the CPU, small and interpreted")
    args = parser.parse_args()
    if args.rehearse:
        os.environ["TRITON_INTERPRET"] = "1"  # Before anything imports Triton.
    from .parts import LONGER, PARTS, Day

    try:
        day = Day.begun("cpu" if args.rehearse else "cuda", started + 60 * MINUTES)
        if args.longer:
            day.ends = math.inf
            day.go_on_with(json.loads((args.out / "times.json").read_text("utf-8")))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    args.out.mkdir(parents=True, exist_ok=True)
    parts = LONGER if args.longer else PARTS
    failed = [part.__name__ for part in parts if not ran(part, day, args.out)]
    minutes = (time.monotonic() - started) / 60
    print(f"\n{minutes:.1f} minutes; failed: {', '.join(failed) or 'nothing'}")
    return bool(failed)


def ran(part: Callable[[Any], Iterator[dict[str, Any]]], day: Any, out: Path) -> bool:
    """Run a part and write its file as it grows. Returns ``False`` where it failed, which is
    written too and ends only this part."""
    print(f"\n{part.__name__}: {(part.__doc__ or '').splitlines()[0]}\n", flush=True)
    started, facts = time.monotonic(), dict[str, Any]()
    try:
        for facts in part(day):
            seconds = round(time.monotonic() - started, 1)
            day.write(out / f"{part.__name__}.json", {**facts, "seconds": seconds})
        return True
    except Exception:
        traceback.print_exc()
        day.write(
            out / f"{part.__name__}.json", {**facts, "failure": traceback.format_exc(limit=-1)}
        )
        return False


if __name__ == "__main__":
    sys.exit(main())
