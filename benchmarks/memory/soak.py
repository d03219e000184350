"""A long day in one ComfyUI: 2,000 frames, 200 prompts, 50 cancelled runs, watched from outside.

    python -m benchmarks.memory.soak --json benchmarks/results/soak.json

It starts the host in COMFYUI_PATH, else ~/ComfyUI, and runs frames of one video in one prompt; then
prompts that each have another picture, model, settings and length, two of them always queued; then
runs that are cancelled at some moment and begun again. Meanwhile it reads memory and file handles
of the host's process. Exits with 1 where a result was wrong or the host's log complains.
"""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any

import numpy as np

from benchmarks import common
from benchmarks.memory.host import Watch, in_tenths, started_host, version
from tests.host.comfy_host import ComfyHost, Result
from tests.host.conftest import trouble_in
from tests.host.graphs import Node, link, node, tiled

MODELS = ("bundled/upscale x2 (light)", "bundled/denoise color (light)")


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--cancels", type=int, default=50)
    args = parser.parse_args()
    with started_host() as host:
        result = {
            "host": version(host),
            "frames": run_frames(host, args.frames),
            "prompts": run_prompts(host, args.prompts),
            "cancels": run_cancels(host, args.cancels),
        }
        log = host.new_log()
    complaints = trouble_in(log) + [line for line in log.splitlines() if "error" in line.lower()]
    result = {"date": time.strftime("%Y-%m-%d"), **result, "complaints": complaints}
    print(json.dumps(result, indent=2))
    common.write(args.json, result)
    sys.exit(bool(complaints))


def picture(seed: int, side: int) -> dict[str, Node]:
    """A noisy picture of its own for every seed."""
    return {
        "sample": node("SwinIRSampleImage", picture="coffee", noise=10, seed=seed),
        "image": node("ImageCrop", image=link("sample"), width=side, height=side, x=64, y=64),
    }


def restoring(seed: int, model: str, side: int = 64, **settings: Any) -> dict[str, Node]:
    return {
        **picture(seed, side),
        "loader": node("SwinIRModelLoader", model_name=model),
        "restored": node(
            "SwinIRRestore", upscale_model=link("loader"), image=link("image"), **settings
        ),
        "save": node("PreviewImage", images=link("restored")),
    }


def run_frames(host: ComfyHost, count: int) -> dict[str, Any]:
    """``count`` frames of 48x48 in one prompt, after two such prompts of 50 frames to warm up; then
    as many again in ten prompts, for the time that each tenth takes."""
    watch = Watch(host.process_id)

    def frames(seed: int, count: int) -> dict[str, Node]:
        graph = restoring(seed, MODELS[0], 48)
        graph["frames"] = node("RepeatImageBatch", image=link("image"), amount=count)
        graph["restored"]["inputs"]["image"] = link("frames")
        last = node("ImageFromBatch", image=link("restored"), batch_index=count - 1, length=1)
        graph["last"] = last
        graph["save"]["inputs"]["images"] = link("last")
        return graph

    for seed in (0, 1):
        host.run(frames(seed, 50))
    with watch.watching():
        host.run(frames(2, count), seconds=count)
    tenths = in_tenths([memory for memory, _ in watch.readings])
    output = count * 96 * 96 * 3 * 4
    seconds = [seconds_of(host.run(frames(3 + i, count // 10), seconds=count)) for i in range(10)]
    return {
        "count": count,
        "output_megabytes": round(output / 2**20),
        "memory_megabytes_by_tenths": [round(value / 2**20) for value in tenths],
        "seconds_per_frame_by_tenths": [round(own * 10 / count, 4) for own in seconds],
    }


def seconds_of(result: Result) -> float:
    """From the start of a prompt to its end, as the host has noted them."""
    names = ("execution_start", "execution_success")
    begun, ended = (result.messages[name]["timestamp"] for name in names)
    return (ended - begun) / 1000


def run_prompts(host: ComfyHost, count: int) -> dict[str, Any]:
    """Prompts of changing models, settings and sizes, always two of them queued."""
    watch, seconds, random_ = Watch(host.process_id), [], random.Random(0)
    waiting: list[tuple[str, tuple[int, int]]] = []

    def submit(seed: int) -> None:
        model, side = MODELS[seed % 2], random_.choice((64, 80, 100))
        graph = restoring(100 + seed, model, side, ensemble=seed % 7 == 0)
        if seed % 3 == 0:
            graph["tiles"] = tiled(48, 8)
            graph["restored"]["inputs"]["tile_settings"] = link("tiles")
        scale = 2 if model == MODELS[0] else 1
        waiting.append((host.submit(graph), (side * scale, side * scale)))

    submit(0)
    for seed in range(1, count + 1):
        if seed < count:
            submit(seed)
        prompt, size = waiting.pop(0)
        result = Result(host, host.wait(prompt))
        assert result.succeeded, result.messages
        seconds.append(seconds_of(result))
        assert result.image().shape[:2] == size
        watch.read()
    return {
        "count": count,
        "seconds_by_tenths": [round(value, 3) for value in in_tenths(seconds)],
        **levels(watch),
    }


def run_cancels(host: ComfyHost, count: int) -> dict[str, Any]:
    """Runs in many tiles that are cancelled at a random moment, each followed by one that ends."""
    watch, random_ = Watch(host.process_id), random.Random(0)
    reference = np.asarray(host.run(restoring(0, MODELS[1], 100)).image())
    cancelled = 0
    for seed in range(count):
        graph = restoring(1000 + seed, MODELS[0], 256, tile_settings=link("tiles"))
        prompt = host.submit({**graph, "tiles": tiled(48, 8)})
        time.sleep(random_.uniform(0, 1.5))
        host.post("/interrupt", {"prompt_id": prompt})
        result = Result(host, host.wait(prompt))
        cancelled += "execution_interrupted" in result.messages
        if seed % 5 == 0:
            host.post("/free", {"free_memory": True})
        again = host.run(restoring(0, MODELS[1], 100)).image()
        assert np.array_equal(again, reference), "another picture after a cancelled run"
        watch.read()
    return {"count": count, "cancelled_while_running": cancelled, **levels(watch)}


def levels(watch: Watch) -> dict[str, Any]:
    memory, files = zip(*watch.readings, strict=True)
    return {
        "memory_megabytes_by_tenths": [round(value / 2**20) for value in in_tenths(memory)],
        "open_files_by_tenths": [round(value) for value in in_tenths(files)],
    }


if __name__ == "__main__":
    main()
