"""Pictures of 12 megapixels through the bundled models in a ComfyUI: time, memory, progress, stop.

To be run by the Python of the host, whose folder is ``COMFYUI_PATH``, else ``~/ComfyUI``:

    ~/ComfyUI/venv/bin/python benchmarks/speed/large_pictures.py \\
        --json benchmarks/results/large-pictures.json

"Upscale or Restore (SwinIR)" with its defaults, as the host calls it. Of each whole run the longest
time between two steps of the host's progress bar, and between two looks at whether the user has
pressed stop, which bounds how long a stop takes at any moment; then runs that are stopped at random
moments. The host's own "Upscale Image (using Model)" runs once beside it where ``--beside`` says
so, on a picture as large, and elsewhere on one of 1024x768.
"""

from __future__ import annotations

import argparse
import importlib
import random
import shlex
import sys
import threading
import time
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from against_host import PACK, load_pack, save_official, start_host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

SECONDS_BETWEEN_READINGS = 0.1
SMALL = (1024, 768)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--size", type=int, nargs=2, default=(4000, 3000), metavar=("WIDTH", "HEIGHT"))
    add("--models", nargs="*", metavar="NAME", help="bundled models (default: all)")
    add("--beside", nargs="*", default=["upscale_x2_light"], metavar="NAME")
    add("--stops", type=int, default=10, metavar="N", help="runs of each that are stopped")
    add("--within", type=float, default=30, metavar="SECONDS", help="moments of the stops")
    add("--json", metavar="FILE.json")
    args = parser.parse_args()
    arguments = [Path(text).name if "/" in text else text for text in sys.argv[1:]]
    command = shlex.join(["python", "benchmarks/speed/large_pictures.py", *arguments])
    with TemporaryDirectory() as folder:
        models = Path(folder) / "models" / "upscale_models"
        models.mkdir(parents=True)
        start_host(["--base-directory", folder, "--cpu"])
        load_pack()
        host, results = Host(), list[dict[str, Any]]()
        picture = gradient_with_noise(*args.size)
        small = picture[:, : SMALL[1], : SMALL[0]].contiguous()

        def found(**facts: Any) -> None:
            print(facts, flush=True)
            results[-1] |= facts
            if args.json:  # Of hours of work nothing is lost.
                write(args.json, command, results)

        for name in args.models or host.bundled():
            node, theirs = host.our_node(name), host.their_node(name, models)
            for warm_up in (node, theirs):
                warm_up(small[:, :64, :64])
            results.append({"model": name})
            found(whole=run(host, node, picture))
            stops = range(args.stops)
            found(stops=[stop(host, node, picture, args.within, seed) for seed in stops])
            if name in args.beside:
                found(host_whole=run(host, theirs, picture))
            else:
                found(small=run(host, node, small), host_small=run(host, theirs, small))


def gradient_with_noise(width: int, height: int) -> Tensor:
    """A picture (1, height, width, 3)."""
    import torch

    rows = torch.linspace(0, 1, height)[:, None, None]
    noise = torch.rand(1, height, width, 3, generator=torch.manual_seed(0))
    return (rows + noise / 8).clamp_(0, 1)


def write(path: str, command: str, results: list[dict[str, Any]]) -> None:
    """Write what is there so far."""
    import torch

    describe, output = (
        importlib.import_module(f"{PACK}.swinir_core.{name}")
        for name in ("benchmark.machine", "cli.output")
    )
    facts = describe.describe(torch.device("cpu"))
    version = importlib.import_module("comfyui_version").__version__
    facts["versions"] = {"comfyui": version, **facts["versions"]}
    output.write_json(path, {"command": command, **facts, "results": results})


class Host:
    """The modules of a host in this process."""

    def __init__(self) -> None:
        self.management: Any = importlib.import_module("comfy.model_management")
        self.utils = importlib.import_module("comfy.utils")
        self.ours = importlib.import_module(f"{PACK}.nodes")
        self.theirs = importlib.import_module("comfy_extras.nodes_upscale_model")
        self.models = importlib.import_module(f"{PACK}.swinir_core.checkpoints.models")
        self.names = importlib.import_module(f"{PACK}.swinir_core.model_names")

    def bundled(self) -> list[str]:
        return list(self.names.bundled_files())

    def our_node(self, name: str) -> Callable[[Tensor], Tensor]:
        model = self.ours.SwinIRModelLoader.execute(f"bundled/{self.names.title(name)}").args[0]
        return lambda image: self.ours.SwinIRRestore.execute(model, image).args[0]

    def their_node(self, name: str, models: Path) -> Callable[[Tensor], Tensor]:
        save_official(
            self.models.read_checkpoint(self.names.bundled_file(name)), models / f"{name}.pth"
        )
        model = self.theirs.UpscaleModelLoader.execute(f"{name}.pth").args[0]
        return lambda image: self.theirs.ImageUpscaleWithModel.execute(model, image).args[0]


class Moments:
    """When the host's progress bar moved and its stop was asked for, and the memory, of a run."""

    def __init__(self, host: Host) -> None:
        self.host, self.steps, self.looks = host, list[float](), list[float]()
        self.memory = 0
        self.processor_seconds = 0.0

    @contextmanager
    def noted(self) -> Iterator[None]:
        import psutil

        management, ended = self.host.management, threading.Event()
        look, process = management.throw_exception_if_processing_interrupted, psutil.Process()

        def looked() -> None:
            self.looks.append(time.monotonic())
            look()

        def watch() -> None:
            while not ended.wait(SECONDS_BETWEEN_READINGS):
                self.memory = max(self.memory, process.memory_info().rss)

        watching = threading.Thread(target=watch)
        watching.start()
        management.throw_exception_if_processing_interrupted = looked
        self.host.utils.set_progress_bar_global_hook(
            lambda *_, **__: self.steps.append(time.monotonic())
        )
        self.begun, spent = time.monotonic(), time.process_time()
        try:
            yield
        finally:
            self.ended = time.monotonic()
            self.processor_seconds = time.process_time() - spent
            management.throw_exception_if_processing_interrupted = look
            self.host.utils.set_progress_bar_global_hook(None)
            ended.set()
            watching.join()

    def longest(self, moments: Sequence[float]) -> dict[str, float]:
        """The longest time without one of these, and how long after the beginning it began."""
        times = (self.begun, *moments, self.ended)
        seconds, since = max((after - before, before) for before, after in pairwise(times))
        return {"seconds": round(seconds, 3), "after": round(since - self.begun, 1)}


def run(host: Host, node: Callable[[Tensor], Tensor], picture: Tensor) -> dict[str, Any]:
    """Run a node once."""
    import psutil

    moments, before = Moments(host), psutil.Process().memory_info().rss
    with moments.noted():
        result = node(picture)
    return {
        "size": f"{picture.shape[2]}x{picture.shape[1]}",
        "seconds": round(moments.ended - moments.begun, 1),
        "processor_seconds": round(moments.processor_seconds, 1),
        "grown_megabytes": round((moments.memory - before) / 2**20),
        "result_megabytes": round(result.nbytes / 2**20),
        "first_step": round(moments.steps[0] - moments.begun, 2),
        "longest_between_steps": moments.longest(moments.steps),
        "longest_between_looks": moments.longest(moments.looks),
    }


def stop(
    host: Host, node: Callable[[Tensor], Tensor], picture: Tensor, within: float, seed: int
) -> dict[str, float]:
    """Stop a run at a random moment; how long it went on."""
    moment = random.Random(seed).uniform(0, within)
    timer = threading.Timer(moment, host.management.interrupt_current_processing)
    begun = time.monotonic()
    timer.start()
    try:
        node(picture)
    except host.management.InterruptProcessingException:
        ended = time.monotonic()
    else:
        raise SystemExit(f"it ended within {moment:.1f} s: choose a smaller --within")
    return {"moment": round(moment, 2), "seconds": round(ended - begun - moment, 3)}


if __name__ == "__main__":
    main()
