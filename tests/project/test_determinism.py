"""The same input, settings and device give the same bytes; what may differ is bounded.

``Restorer`` states the bound. Sums of other lengths are split among registers in another way, so
what is run together, and by how many threads, decides on the last bits of float32.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from swinir_core import Restorer, TileSettings
from swinir_core.checkpoints.checkpoint import Checkpoint, write_checkpoint
from swinir_core.cli.main import main
from swinir_core.network import plan
from swinir_core.network.config import SwinIRConfig
from swinir_core.restoration import restorer
from tests.support.determinism_cases import CASES, GRAY, SMALL, network
from tests.training.runs import save_photograph

ROOT = Path(__file__).parents[2]
ROUNDING = 5e-6
"""In float32 on a CPU. ``benchmarks.exactness.last_bits`` measured 2.6e-6 at most."""

SIZES = [(8, 8), (1, 1), (5, 37), (16, 24), (40, 40), (33, 90)]


@pytest.fixture(scope="module")
def digests() -> list[dict[str, str]]:
    """Of two processes with different histories."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.determinism_cases", *history],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed, history in (("1", []), ("2", ["--reversed"]))
    ]
    results = []
    for process in started:
        output, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors
        results.append(json.loads(output))
    return results


@pytest.mark.parametrize("case", CASES)
def test_every_process_gives_the_same_bytes(digests: list[dict[str, str]], case: str) -> None:
    assert digests[0][case] == digests[1][case]


def test_the_cases_are_not_all_alike(digests: list[dict[str, str]]) -> None:
    assert len(set(digests[0].values())) == len(CASES)


def batch(height: int, width: int, count: int = 4, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.rand(count, height, width, channels, generator=generator)


def one_by_one(run: Restorer, images: Tensor) -> Tensor:
    return torch.cat([run(image[None]) for image in images])


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("config", [SMALL, GRAY], ids=["color", "gray"])
def test_a_frame_of_a_batch_is_that_frame_alone(
    config: SwinIRConfig, size: tuple[int, int]
) -> None:
    run = Restorer(network(config))
    images = batch(*size, channels=config.in_channels)
    alone = one_by_one(run, images)
    for at_once in (2, 3, None):
        together = run(images, TileSettings(at_once=at_once))
        assert (together - alone).abs().max() <= ROUNDING
    assert torch.equal(run(images, TileSettings(at_once=1)), alone)


def test_so_is_one_in_half_precision_to_within_its_own_rounding() -> None:
    images = batch(16, 24)
    for dtype in (torch.bfloat16, torch.float16):
        run = Restorer(network(dtype=dtype))
        difference = (run(images) - one_by_one(run, images)).abs().max()
        assert difference <= 4 * torch.finfo(dtype).eps


def test_tiles_run_together_are_those_run_alone() -> None:
    run, images = Restorer(network()), batch(70, 90, 1)
    alone = run(images, TileSettings("tiled", 32, 8, at_once=1))
    for at_once in (2, 5, None):
        together = run(images, TileSettings("tiled", 32, 8, at_once=at_once))
        assert (together - alone).abs().max() <= ROUNDING


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_threads_change_the_last_bits_at_most(size: tuple[int, int]) -> None:
    run, images = Restorer(network()), batch(*size, count=1)
    torch.set_num_threads(1)
    expected = run(images)
    for count in (2, 3, 8):
        torch.set_num_threads(count)
        assert (run(images) - expected).abs().max() <= ROUNDING


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(
    ("constant", "values"),
    [
        ("_CPU_TOKENS", (64, 300, 2**16)),
        ("_CPU_STRIP_PIXELS", (1, 2**9, 2**20)),
        ("_CPU_STRIP_ROWS", (1, 16, 10**6)),
    ],
)
def test_how_much_is_worked_on_at_a_time_changes_the_last_bits_at_most(
    constant: str, values: tuple[int, ...], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, images = Restorer(network()), batch(*size, count=1)
    expected = run(images)
    for value in values:
        monkeypatch.setattr(plan, constant, value)
        assert (run(images) - expected).abs().max() <= ROUNDING


def test_memory_changes_nothing_but_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    run, images = Restorer(network()), batch(40, 40, 1)
    expected = run(images)
    whole = run.estimate_memory(40, 40)
    for budget in (whole, 10**9, 10**15):
        assert torch.equal(run(images, TileSettings(memory_budget=budget)), expected)
    for free in (whole + 4 * expected.numel(), 10**12):
        monkeypatch.setattr(restorer, "free_memory", lambda device, free=free: free)
        assert torch.equal(run(images), expected)
    tiles = TileSettings("tiled", 32, 8, at_once=1)
    cut = run(images, tiles)
    for free in (1, 10**12):
        monkeypatch.setattr(restorer, "free_memory", lambda device, free=free: free)
        assert torch.equal(run(images, tiles), cut)


def test_a_mask_of_ones_is_none() -> None:
    run, images = Restorer(network()), batch(40, 56, 2)
    for tiles in (None, TileSettings("tiled", 32, 8)):
        assert torch.equal(run(images, tiles, mask=torch.ones(1, 40, 56)), run(images, tiles))


def test_what_a_mask_leaves_out_changes_nothing_else() -> None:
    run, images = Restorer(network()), batch(40, 72, 1)
    tiles = TileSettings("tiled", 32, 8, at_once=1)
    mask = torch.zeros(1, 40, 72)
    mask[..., :20, :20] = 1
    masked, whole = run(images, tiles, mask=mask), run(images, tiles)
    assert torch.equal(masked[:, :38, :38], whole[:, :38, :38])
    assert not torch.equal(masked, whole)


@pytest.mark.parametrize("ensemble", [False, True])
def test_being_watched_changes_nothing(ensemble: bool) -> None:
    run, images = Restorer(network(), ensemble=ensemble), batch(40, 40, 2)
    tiles = TileSettings("tiled", 32, 8)
    seen: list[Any] = []
    watched = run(
        images, tiles, lambda *progress: seen.append(progress), lambda: False, seen.append
    )
    assert torch.equal(watched, run(images, tiles))
    assert seen


def test_after_memory_ran_out_it_is_as_if_fewer_had_been_asked_for() -> None:
    images = batch(16, 24)
    model = network()
    expected = Restorer(model)(images, TileSettings(at_once=1))

    def refuse(_: object, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs[0]) > 6:  # Windows; one frame has six.
            raise MemoryError

    model.layers[1].register_forward_pre_hook(refuse)
    assert torch.equal(Restorer(model)(images), expected)


def generators() -> list[Any]:
    """The states of those of the whole process."""
    state = np.random.get_state(legacy=False)  # noqa: NPY002
    return [torch.get_rng_state().tolist(), state["state"]["key"].tolist(), random.getstate()]


def test_generators_of_the_whole_process_are_left_alone() -> None:
    run, images = Restorer(network(), ensemble=True), batch(40, 40, 1)
    before = generators()
    run(images, TileSettings("tiled", 32))
    assert run.overlap
    assert generators() == before


def test_a_model_file_does_not_tell_in_which_order_it_was_made(tmp_path: Path) -> None:
    weights = network().state_dict()
    metadata = {"author": "a", "licence": "b", "description": "c", "scores": "{}"}
    orders = [
        (dict(reversed(weights.items())), dict(reversed(metadata.items()))),
        *[(weights, metadata)] * 8,
    ]
    files = set()
    for tensors, header in orders:
        write_checkpoint(tmp_path / "m.safetensors", Checkpoint(SMALL, tensors, header))
        files.add((tmp_path / "m.safetensors").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize(
    ("task", "seeds"), [("denoise", [0, 0, 0]), ("real_sr", [0, 1, 2]), ("sr", [None] * 3)]
)
def test_an_evaluation_tells_its_seeds(
    task: str, seeds: list[int | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = GRAY if task == "denoise" else SMALL
    write_checkpoint("m.safetensors", Checkpoint(config, network(config).state_dict()))
    for seed in range(3):
        save_photograph(Path("set", f"{seed}.png"), seed=seed)
    given = ["--data", "set", "--model", "m.safetensors", "--device", "cpu", "--task", task]
    assert main(["evaluate", *given, "--json", "first.json"]) == 0
    assert main(["evaluate", *given, "--json", "second.json"]) == 0
    first, second = (Path(f"{name}.json").read_text("utf-8") for name in ("first", "second"))
    assert first == second
    assert [image["seed"] for image in json.loads(first)["images"]] == seeds
