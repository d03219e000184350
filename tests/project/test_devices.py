"""Every network on every device: operators, memory, and how each says that memory ran out.

Devices that are not here are pretended (``pretend_device``), with the functions of torch that tell
what a machine has replaced to match.
"""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import psutil
import pytest
import torch
import torchgen
from torch import Tensor

from swinir_core import Restorer, TileSettings
from swinir_core.benchmark.machine import time_run
from swinir_core.devices import free_memory, is_out_of_memory, release_cached_memory
from swinir_core.restoration import restorer
from tests.support.determinism_cases import GRAY, SMALL, network, photograph
from tests.support.pretend_device import DEVICES, GIB, moved, pretended


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which backend was asked to give back memory or to finish; CUDA must not be asked anything."""
    asked: list[str] = []
    for kind in ("mps", "xpu"):
        backend = getattr(torch, kind)
        for name in ("empty_cache", "synchronize"):
            monkeypatch.setattr(
                backend, name, lambda *_, kind=kind, name=name: asked.append(f"{kind}.{name}")
            )
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 12 * GIB)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 5 * GIB)
    monkeypatch.setattr(torch.xpu, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.xpu, "mem_get_info", lambda device: (6 * GIB, 16 * GIB))
    monkeypatch.setattr(torch.xpu, "memory_reserved", lambda device: 3 * GIB)
    monkeypatch.setattr(torch.xpu, "memory_allocated", lambda device: GIB)
    nameless = ModuleType("torch.privateuseone")
    nameless.__dict__.update(
        _lazy_init=lambda: None, _is_in_bad_fork=lambda: False, manual_seed_all=lambda seed: None
    )
    monkeypatch.setitem(sys.modules, "torch.privateuseone", nameless)
    monkeypatch.setattr(torch, "privateuseone", nameless, raising=False)

    def no_cuda(*_: object) -> None:
        raise AssertionError("CUDA was asked")

    for name in ("empty_cache", "synchronize", "mem_get_info", "get_device_capability"):
        monkeypatch.setattr(torch.cuda, name, no_cuda)
    for name in ("memory_reserved", "memory_allocated", "get_device_properties"):
        monkeypatch.setattr(torch.cuda, name, no_cuda)
    return asked


VARIANTS = {
    "color": SMALL,
    "gray, window 7": replace(GRAY, window_size=7, img_size=56),
    "pixelshuffle, absolute embedding": replace(SMALL, upsampler="pixelshuffle", ape=True, task=""),
    "nearest+conv, 3conv": replace(
        SMALL, scale=4, upsampler="nearest+conv", resi_connection="3conv", task=""
    ),
}


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("kind", DEVICES)
def test_every_network_runs_on_the_device(kind: str, name: str) -> None:
    config = VARIANTS[name]
    model = network(config)
    image = photograph(20, 27)[None]
    expected = Restorer(model)(image)
    with pretended(kind) as pretend:
        restorer = Restorer(moved(model, pretend.device))
        assert restorer.device.type == kind
        assert (restorer(image.double()) - expected).abs().max() <= 1e-5
        half = Restorer(moved(model, pretend.device, torch.bfloat16))
        assert (half(image) - expected).abs().max() <= 0.2
    assert pretend.operators


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("kind", DEVICES)
def test_every_option_works_on_the_device(kind: str) -> None:
    model = network()
    image = torch.cat([photograph(24, 40), photograph(24, 40)[..., :1]], dim=-1)[None]
    mask = torch.linspace(-1, 1, 24 * 40).clamp(0, 1).view(1, 24, 40)
    tiles = TileSettings("tiled", 32, 8)
    expected = Restorer(model, ensemble=True)(image, tiles, mask=mask)
    with pretended(kind) as pretend:
        there = moved(model, pretend.device)
        assert Restorer(there).overlap == Restorer(model).overlap
        there = Restorer(there, ensemble=True)
        result = there(image, tiles, mask=mask.to(pretend.device))
        assert result.device.type == "cpu"
        assert (result - expected).abs().max() <= 1e-5
        on_device = there(image.to(pretend.device), tiles, mask=mask)
        assert (on_device - expected).abs().max() <= 1e-5


def operators_of_mps() -> dict[str, bool]:
    """For every operator of this torch, whether Apple's GPUs have it, by its own table."""
    table = Path(str(torchgen.__file__)).with_name("packaged") / "ATen/native/native_functions.yaml"
    entries = re.split(r"^- func: ", table.read_text("utf-8"), flags=re.MULTILINE)[1:]
    found, delegates = {}, {}
    for entry in entries:
        name = entry.partition("(")[0]
        delegate = re.search(r"^  structured_delegate: (\S+)", entry, re.MULTILINE)
        keys = re.findall(r"^    ([\w, ]+): ", entry.partition("dispatch:")[2], re.MULTILINE)
        general = "dispatch:" not in entry or any("Composite" in key for key in keys)
        found[name] = general or any("MPS" in key.split(", ") for key in keys)
        if delegate:
            delegates[name] = delegate[1]
    return found | {name: found[other] for name, other in delegates.items()}


@pytest.mark.usefixtures("calls")
def test_apples_gpus_have_all_that_is_used() -> None:
    has = operators_of_mps()
    assert has["addmm"]
    assert not has["mode"]
    with pretended("mps") as pretend:
        for config in VARIANTS.values():
            Restorer(moved(network(config), pretend.device))(photograph(20, 27)[None])
        there = moved(network(), pretend.device)
        assert Restorer(there).overlap
        Restorer(there, ensemble=True)(photograph(24, 40)[None], TileSettings("tiled", 32, 8))
    assert [name for name in sorted(pretend.operators) if not has[name]] == []


# Memory


@pytest.mark.usefixtures("calls")
def test_each_device_is_asked_for_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2 * GIB))
    free = {name: free_memory(torch.device(name)) for name in ("cpu", *DEVICES, "hpu", "meta")}
    machine = 2 * GIB
    assert free == {
        **{"cpu": machine, "mps": 7 * GIB, "xpu": 8 * GIB, "privateuseone": machine},
        **{"hpu": machine, "meta": machine},
    }


@pytest.mark.usefixtures("calls")
def test_an_intel_gpu_that_does_not_tell_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("The device doesn't support querying the available free memory.")

    monkeypatch.setattr(torch.xpu, "mem_get_info", refuse)
    monkeypatch.setattr(
        torch.xpu, "get_device_properties", lambda device: SimpleNamespace(total_memory=16 * GIB)
    )
    assert free_memory(torch.device("xpu", 0)) == 15 * GIB


def test_only_the_backend_of_the_device_is_spoken_to(calls: list[str]) -> None:
    for kind in (*DEVICES, "cpu", "hpu"):
        device = torch.device(kind)
        release_cached_memory(device)
        time_run(lambda: torch.zeros(1), device)
    assert calls == [
        *("mps.empty_cache", "mps.synchronize", "mps.synchronize"),
        *("xpu.empty_cache", "xpu.synchronize", "xpu.synchronize"),
    ]


@pytest.mark.parametrize("free", [0, -GIB, 1], ids=["none", "less than none", "a byte"])
def test_no_memory_at_all_makes_the_smallest_tiles(
    free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, image = Restorer(network()), photograph(40, 48)[None]
    expected = run(image)
    monkeypatch.setattr(restorer, "free_memory", lambda device: free)
    tiles = TileSettings(overlap=16)
    plan = run.plan(40, 48, tiles)
    assert plan.tiles.largest == (24, 24)
    assert (run(image, tiles) - expected).abs().max() < 0.02


MESSAGES = {
    "mps": (
        "MPS backend out of memory (MPS allocated: 9 GB, max allowed: 9.07 GB).",
        "Invalid buffer size: 19.45 GB",
    ),
    "xpu": (
        "XPU out of memory. Tried to allocate 128.00 GiB.",
        "Native API failed. Native API returns: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)",
        "Native API failed. Native API returns: -5 (PI_ERROR_OUT_OF_RESOURCES) -5",
    ),
    "privateuseone": (
        "Could not allocate tensor with 4915840 bytes. There is not enough GPU video memory "
        "available!",
    ),
    "cpu": (
        "[enforce fail at alloc_cpu.cpp:121] data. DefaultCPUAllocator: not enough memory: you "
        "tried to allocate 8 bytes.",
    ),
    "cuda": (
        "HIP out of memory. Tried to allocate 2.00 GiB",
        "CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate(handle)`",
    ),
}


@pytest.mark.parametrize("message", [m for messages in MESSAGES.values() for m in messages])
def test_every_maker_says_it_in_another_way(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert is_out_of_memory(torch.OutOfMemoryError(message))
    assert not is_out_of_memory(ValueError(message))


@pytest.mark.parametrize(
    "message",
    [
        "mat1 and mat2 shapes cannot be multiplied",
        "Native API failed. Native API returns: 20 (UR_RESULT_ERROR_DEVICE_LOST)",
        "Placeholder storage has not been allocated on MPS device!",
    ],
)
def test_other_failures_are_none_of_memory(message: str) -> None:
    assert not is_out_of_memory(RuntimeError(message))


@pytest.mark.parametrize(
    ("kind", "message"), [(k, m[-1]) for k, m in MESSAGES.items() if k in DEVICES]
)
def test_memory_that_runs_out_on_the_device_makes_smaller_tiles(
    kind: str, message: str, calls: list[str]
) -> None:
    model = network()
    image = photograph(40, 48)[None]
    expected = Restorer(model)(image)
    with pretended(kind) as pretend:
        there = moved(model, pretend.device)

        def refuse(_: object, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0][0, 0].numel() > 40 * 40:
                raise RuntimeError(message)

        there.register_forward_pre_hook(refuse)
        result = Restorer(there)(image, TileSettings(overlap=16))
    assert (result - expected).abs().max() < 0.02
    assert calls == ([] if kind == "privateuseone" else [f"{kind}.empty_cache"])
