"""A folder of hundreds of pictures through the folder node of a real ComfyUI, watched from outside.

    python -m benchmarks.memory.folder --json benchmarks/results/memory-folder.json

It starts the host in COMFYUI_PATH, else ~/ComfyUI, and after a few pictures to warm up reads the
memory of the host's process while a folder of mixed sizes is restored and saved: most pictures are
128 to 150 pixels wide and high, every twentieth is up to 400.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import PIL.Image

from benchmarks import common
from benchmarks.memory.host import Watch, in_tenths, started_host, version
from tests.host.comfy_host import ComfyHost
from tests.host.graphs import link, node, ours

MODEL = "bundled/upscale x2 (light)"
LARGE_EVERY = 20


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--count", type=int, default=500, help="of pictures")
    args = parser.parse_args()
    with started_host() as host:
        run(host, LARGE_EVERY)
        result = {"host": version(host), "model": MODEL, **run(host, args.count)}
    print(json.dumps(result, indent=2))
    common.write(args.json, result)


def run(host: ComfyHost, count: int) -> dict[str, Any]:
    name = f"pictures{count}"
    folder = host.base / "input" / name
    folder.mkdir(parents=True)
    pixels = 0
    for number in range(count):
        height, width = size_of(number)
        pixels += height * width
        picture = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        PIL.Image.fromarray(picture).save(folder / f"{number}.png")
    graph = {
        "loader": ours(MODEL),
        "run": node(
            "SwinIRRestoreFolder",
            upscale_model=link("loader"),
            folder=f"input/{name}",
            save_in=name,
        ),
    }
    watch = Watch(host.process_id)
    with watch.watching():
        host.run(graph, seconds=30 * count)
    assert len(list((host.base / "output" / name).iterdir())) == count
    memory, files = zip(*watch.readings, strict=True)
    return {
        "count": count,
        "pictures_and_results_would_take_megabytes": round(5 * pixels * 3 * 4 / 2**20),
        "highest_megabytes": round(max(memory) / 2**20),
        "highest_megabytes_by_tenths": [round(value / 2**20) for value in in_tenths(memory, max)],
        "most_open_files": max(files),
    }


def size_of(number: int) -> tuple[int, int]:
    """Choose height and width of a picture."""
    if number % LARGE_EVERY == LARGE_EVERY - 1:
        return 400, 300 + number % 101
    return 128 + number % 23, 128 + number % 19


if __name__ == "__main__":
    main()
