"""The host's own upscale nodes beside ours, in one process of a real ComfyUI.

To be run by the Python of the host, whose folder is ``COMFYUI_PATH``, else ``~/ComfyUI``:

    ~/ComfyUI/venv/bin/python benchmarks/speed/against_host.py --cpu \\
        --json benchmarks/results/host.json

One file of weights goes through "Load Upscale Model" and "Upscale Image (using Model)", and through
"Load SwinIR Model" and "Upscale or Restore (SwinIR)" without settings. Loading is not timed; all
from image to image is: tiles, transfers, clamping. Otherwise measured as ``swinir benchmark`` does
it.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import os
import shlex
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[2]
PACK = "swinir_restore"
"""The name our pack is imported under; the host would take that of its folder."""

WEIGHTS = "weights.pth"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--model", default="lightweight_sr_x2", help="preset, bundled model or file")
    add("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    add("--cpu", action="store_true", help="do not use the GPU")
    add("--threads", type=int, metavar="N", help="CPU threads (default: as torch chooses)")
    add("--rounds", type=int, default=3, metavar="N")
    add("--json", metavar="FILE.json")
    args = parser.parse_args()
    with TemporaryDirectory() as folder:
        models = Path(folder) / "models" / "upscale_models"
        models.mkdir(parents=True)
        start_host(["--base-directory", folder, *(["--cpu"] if args.cpu else [])])
        load_pack()
        compare(args, models)


def start_host(arguments: list[str]) -> None:
    """Make the host's modules importable, set up as its command line would do it."""
    home = Path(os.environ.get("COMFYUI_PATH", "~/ComfyUI")).expanduser()
    if not (home / "main.py").is_file():
        sys.exit(f"There is no ComfyUI at {home}: set COMFYUI_PATH to a checkout of it.")
    sys.argv[1:] = arguments
    sys.path.insert(0, str(home))
    try:
        importlib.import_module("comfy.options").enable_args_parsing()
        upscaling = importlib.import_module("comfy_extras.nodes_upscale_model")
        mappings = importlib.import_module("nodes").NODE_CLASS_MAPPINGS
    except ModuleNotFoundError as error:
        sys.exit(f"{sys.executable} has no {error.name}: use the Python that runs {home}.")
    mappings["UpscaleModelLoader"] = upscaling.UpscaleModelLoader


def load_pack() -> None:
    """Import our pack and let it register its folders, as the host does."""
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[PACK] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())


def compare(args: argparse.Namespace, models: Path) -> None:
    """Measure both nodes in turn; print the table, write the JSON."""
    import torch
    from tqdm import tqdm

    benchmark, inputs, table, options, output = (
        importlib.import_module(f"{PACK}.swinir_core.{name}")
        for name in (
            *("benchmark.measuring", "benchmark.contenders"),
            *("cli.benchmark", "cli.options", "cli.output"),
        )
    )
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        target = args.json and options.json_argument(args.json)
        checkpoint = inputs.weights_named(args.model)
    except (argparse.ArgumentTypeError, ValueError) as error:
        sys.exit(str(error))
    save_official(checkpoint, models / WEIGHTS)

    host = importlib.import_module("comfy_extras.nodes_upscale_model")
    ours = importlib.import_module(f"{PACK}.nodes")
    nodes = [
        Node("host", host.UpscaleModelLoader, host.ImageUpscaleWithModel),
        Node("swinir", ours.SwinIRModelLoader, ours.SwinIRRestore),
    ]
    device = importlib.import_module("comfy.model_management").get_torch_device()
    contenders = [
        inputs.Contender(node.name, "", node, torch.device("cpu"), torch.float32) for node in nodes
    ]
    case = benchmark.Case(args.model, *args.size)
    with tqdm(total=2 * (1 + args.rounds), unit="run", disable=None) as bar:
        results = benchmark.measure(
            case, checkpoint.config, contenders, device, args.rounds, ran=bar.update
        )
    for node, result in zip(nodes, results, strict=True):
        result.precision = ", ".join(sorted(node.precisions))

    command = ["python", "benchmarks/speed/against_host.py", "--model", args.model]
    command += ["--size", *map(str, args.size), *(["--cpu"] if args.cpu else [])]
    command += ["--threads", str(torch.get_num_threads()), "--rounds", str(args.rounds)]
    reference = '"Upscale Image (using Model)"'
    facts = benchmark.report(shlex.join(command), results, device, args.rounds, reference)
    version = importlib.import_module("comfyui_version").__version__
    facts["versions"] = {"comfyui": version, **facts["versions"]}
    facts["pieces"] = {node.name: node.pieces for node in nodes}
    print(table.text(facts, results))
    for node in nodes:
        print(f"{node.name} ran pieces of {', '.join(node.pieces)}.")
    if target:
        output.write_json(target, facts)


def save_official(checkpoint: Any, path: Path) -> None:
    """Write the weights as a .pth file, with the buffers that the host's loader insists on."""
    import torch

    reference = importlib.import_module(f"{PACK}.swinir_core.checkpoints.spandrel")
    buffers = dict(reference.spandrel_network(checkpoint.config).named_buffers())
    torch.save({"params": {**checkpoint.state_dict, **buffers}}, path)


class Node:
    """An upscale node with its model, called as the host calls it."""

    def __init__(self, name: str, loader: Any, node: Any) -> None:
        self.name = name
        self.precisions: set[str] = set()
        """Of the images that its network was given."""

        self._node = node
        self._model = loader.execute(WEIGHTS).args[0]
        self._model.model.register_forward_pre_hook(self._note)
        self._sizes: list[tuple[int, int]] = []

    def __call__(self, image: Any) -> Any:
        """(1, C, H, W) in 0..1 to (1, C, scale * H, scale * W), on the CPU."""
        self._sizes.clear()
        return self._node.execute(self._model, image.movedim(1, -1)).args[0].movedim(-1, 1)

    @property
    def pieces(self) -> list[str]:
        """The sizes that its network was given in the last run."""
        return [f"{width}x{height}" for height, width in self._sizes]

    def _note(self, _: Any, inputs: tuple[Any, ...]) -> None:
        self.precisions.add(str(inputs[0].dtype).removeprefix("torch."))
        self._sizes.append(tuple(inputs[0].shape[-2:]))


if __name__ == "__main__":
    main()
