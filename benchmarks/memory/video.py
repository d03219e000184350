"""Videos of 100 and 1,000 frames through the video node of a real ComfyUI, watched from outside.

    python -m benchmarks.memory.video --json benchmarks/results/memory-video.json

It starts the host in COMFYUI_PATH, else ~/ComfyUI, and after a short video to warm up reads the
memory of the host's process while videos with sound are restored and saved.
"""

from __future__ import annotations

import json
from typing import Any

import av

from benchmarks import common
from benchmarks.memory.host import Watch, in_tenths, started_host, version
from tests.host.comfy_host import ComfyHost
from tests.host.graphs import Node, link, node, ours
from tests.support.videos import write_video

MODEL = "bundled/upscale x2 (light)"


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--side", type=int, default=32, help="of the frames, in pixels")
    args = parser.parse_args()
    with started_host() as host:
        run(host, 20, args.side)
        result = {
            "host": version(host),
            "pyav": av.__version__,
            "model": MODEL,
            "frames_of": f"{args.side}x{args.side}",
            "runs": [run(host, count, args.side) for count in (100, 1000)],
        }
    print(json.dumps(result, indent=2))
    common.write(args.json, result)


def run(host: ComfyHost, count: int, side: int) -> dict[str, Any]:
    folder = host.base / "input"
    folder.mkdir(exist_ok=True)
    name = f"{count}.mp4"
    write_video(folder / name, count, (side, side), sound="aac")
    graph: dict[str, Node] = {
        "load": node("LoadVideo", file=name),
        "loader": ours(MODEL),
        "restored": node("SwinIRRestoreVideo", upscale_model=link("loader"), video=link("load")),
        "save": node(
            "SaveVideo", video=link("restored"), filename_prefix="v", format="auto", codec="auto"
        ),
    }
    watch = Watch(host.process_id)
    with watch.watching():
        host.run(graph, seconds=10 * count)
    memory = [reading for reading, _ in watch.readings]
    return {
        "count": count,
        "frames_in_memory_would_take_megabytes": round(count * 5 * side * side * 3 * 4 / 2**20),
        "highest_megabytes": round(max(memory) / 2**20),
        "memory_megabytes_by_tenths": [round(value / 2**20) for value in in_tenths(memory)],
    }


if __name__ == "__main__":
    main()
