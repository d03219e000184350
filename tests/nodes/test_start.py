"""What a host has to wait for when it starts: the lists of choices, nothing that computes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from swinir_core import bundled_models
from swinir_core.model_names import bundled_files
from swinir_core.network.config import TASKS

ROOT = Path(__file__).parents[2]

START = """
import asyncio, sys
import numpy, PIL.Image, pytest, torch  # Every host has these.
from tests.support.stub_host import nodes_without_host

folders = {
    "folder_names_and_paths": {},
    "models_dir": sys.argv[1],
    "get_folder_paths": lambda name: [],
    "get_filename_list": lambda name: [],
    "get_input_directory": lambda: sys.argv[1],
}
before = set(sys.modules)
with nodes_without_host(pytest.MonkeyPatch(), **folders) as nodes:
    asyncio.run(nodes.SwinIRExtension().get_node_list())
    nodes.model_loader.model_names()
    print(*set(sys.modules) - before)
"""

COMPUTES = {"network", "restoration", "checkpoints", "degradation", "devices"}
HEAVY = {"triton", "matplotlib", "torchvision", "spandrel", "av", "safetensors", "einops", "psutil"}


def test_a_host_starts_without_what_computes(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", START, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    loaded = [name.split(".") for name in done.stdout.split()]
    core = {parts[2] for parts in loaded if parts[1:2] == ["swinir_core"] and len(parts) > 2}
    assert {"choices", "model_names"} < core
    assert core & COMPUTES == set()
    assert {parts[0] for parts in loaded} & HEAVY == set()


def test_models_are_listed_in_the_order_of_their_tasks() -> None:
    """Names alone give the order that the headers of the files ask for."""
    models = bundled_models()
    assert [model.name for model in models] == list(bundled_files())
    order = [(TASKS.index(model.task), model.scale) for model in models]
    assert order == sorted(order)


@pytest.mark.parametrize("module", sorted(ROOT.glob("nodes/*.py")), ids=lambda path: path.stem)
def test_nodes_leave_running_to_their_functions(module: Path) -> None:
    lines = module.read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("from .running")] == []
