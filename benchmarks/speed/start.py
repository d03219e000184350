"""Time until anything happens: the command's help, its first picture, the nodes in a host.

    python -m benchmarks.speed.start --threads 1 --json benchmarks/results/start.json
    python -m benchmarks.speed.start --host ~/ComfyUI ~/ComfyUI/venv/bin/python

Seconds of processor time of fresh processes, the least of some rounds after one: other programs do
not count, and files are in the system's memory. ``picture`` is ``swinir restore`` of 128x128 by the
default model, with the import of torch, which ``torch`` tells. In a host, what it imports for
itself is there before ``pack``: the nodes and their lists of choices.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import PIL.Image

from benchmarks import common
from benchmarks.common import ROOT
from swinir_core.benchmark.contenders import sample
from swinir_core.images.levels import to_integers

IN_HOST = """
import sys, time
home, pack, base = sys.argv[1:]
sys.path.insert(0, pack + "/tests/host")
from pathlib import Path
from in_process import load_pack, start_host
start_host(Path(home), ["--cpu", "--base-directory", base])
from comfy_extras.nodes_upscale_model import UpscaleModelLoader
import comfy_api.latest, nodes
nodes.NODE_CLASS_MAPPINGS["UpscaleModelLoader"] = UpscaleModelLoader
started = time.process_time()
for node in vars(load_pack(Path(pack))).values():
    if hasattr(node, "define_schema"):
        node.define_schema()
print(time.process_time() - started)
"""


def main() -> None:
    parser = common.parser(__doc__)
    common.add_threads(parser)
    add = parser.add_argument
    add("--host", nargs=2, metavar=("HOME", "PYTHON"), help="a ComfyUI and its Python")
    add("--rounds", type=int, default=5)
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        picture, swinir = Path(folder, "a.png"), [sys.executable, "-m", "swinir_core"]
        pixels = to_integers(sample(3, 128, 128)[0].movedim(0, -1).numpy())
        PIL.Image.fromarray(pixels).save(picture)
        restore = [*swinir, "restore", str(picture), "-o", f"{folder}/b.png", "--overwrite"]
        commands = {
            "python": [sys.executable, "-c", ""],
            "help": [*swinir, "--help"],
            "torch": [sys.executable, "-c", "import torch"],
            "picture": [*restore, "--device", "cpu"],
        }
        seconds = {name: least(run, args.rounds) for name, run in commands.items()}
        if args.host:
            home, python = args.host
            Path(folder, "custom_nodes").mkdir()
            run = [python, "-c", IN_HOST, home, str(ROOT), folder]
            seconds["pack"] = min(float(output(run)) for _ in range(args.rounds + 1))
    for name, value in seconds.items():
        print(f"{name:<10}{value:7.3f} s")
    common.write(args.json, {"processor_seconds": seconds})


def least(command: list[str], rounds: int) -> float:
    """Seconds of processor time of a command, the least of ``rounds`` after one."""
    times = []
    for _ in range(rounds + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        output(command)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(times[1:])


def output(command: list[str]) -> str:
    """The last line of a command that must succeed."""
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return (done.stdout.splitlines() or [""])[-1]


if __name__ == "__main__":
    main()
