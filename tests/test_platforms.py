"""What the package asks of a device, a system and a build of torch, and what it does without.

Devices that are not here are pretended (``pretend_device``), with the functions of torch that tell
what a machine has replaced to match.
"""

from __future__ import annotations

import ast
import importlib.abc
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
import torchgen
from torch import Tensor

from swinir_core import Restorer, SwinIR, TileSettings, kernels, restorer
from swinir_core.cli_restore import UsageError, find_device, find_precision
from swinir_core.machine import time_run
from swinir_core.memory import free_memory, is_out_of_memory, release_cached_memory
from swinir_core.processes import Processes
from swinir_core.run import Forecast
from tests.determinism_cases import GRAY, SMALL, network, photograph
from tests.pretend_device import PretendDevice
from tests.stub_host import nodes_without_host

ROOT = Path(__file__).parents[1]
GIB = 2**30
DEVICES = ("mps", "xpu", "privateuseone")
"""Apple's and Intel's; DirectML's name for whatever it finds."""

LACKED_BY_MPS = frozenset({"index_copy", "index_copy_", "cummax", "_cummax_helper"})
"""Of what was once used here, by the table of operators of torch 2.6."""


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


def pretended(kind: str) -> PretendDevice:
    lacks = LACKED_BY_MPS if kind == "mps" else frozenset()
    return PretendDevice(kind, lacks, float64=kind == "xpu")


def moved(model: SwinIR, device: torch.device, dtype: torch.dtype = torch.float32) -> SwinIR:
    copy = SwinIR(model.config, device=device, dtype=dtype)
    copy.load_state_dict(model.state_dict())
    return copy.eval().requires_grad_(False)


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
    assert isinstance(plan, Forecast)
    assert plan.largest == (24, 24)
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


# The choice of a device


@pytest.mark.parametrize(
    ("cuda", "xpu", "mps", "choices"),
    [
        (0, 0, False, {"auto": "cpu", "cpu": "cpu", "mps": None, "cuda": None, "xpu": None}),
        (0, 0, True, {"auto": "mps", "mps": "mps", "cpu": "cpu", "cuda:0": None}),
        (0, 2, False, {"auto": "xpu:0", "xpu": "xpu:0", "xpu:1": "xpu:1", "xpu:2": None}),
        (2, 1, False, {"auto": "cuda:0", "cuda": "cuda:0", "cuda:1": "cuda:1", "xpu": "xpu:0"}),
    ],
    ids=["CPU", "Apple", "Intel", "NVIDIA"],
)
def test_which_device_the_command_takes(
    cuda: int,
    xpu: int,
    mps: bool,
    choices: dict[str, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: xpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    for name, device in choices.items():
        if device is None:
            with pytest.raises(UsageError, match=r"this machine has only .*cpu"):
                find_device(name)
        else:
            assert find_device(name) == device
            # Half precision by itself only where it is known to be fast.
            if not device.startswith("cuda"):
                assert find_precision("auto", device) == torch.float32
    if xpu > 1:
        assert [Processes(i, 3, i).device("xpu:0") for i in range(3)] == ["xpu:0", "xpu:1", "xpu:0"]


def test_the_nodes_know_a_device_with_or_without_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with nodes_without_host(monkeypatch) as nodes:
        is_own = nodes.upscale_model.SwinIRUpscaleModel._is_own
        fastest = nodes.host.fastest_precision
        management: Any = nodes.host.comfy.model_management
    own = ("mps", "mps", "cuda:1", "cuda:1", "xpu:0", "privateuseone:0", "cpu")
    asked = ("mps:0", "mps", "cuda", "cuda:0", "cpu", "privateuseone", "cpu")
    found = [
        is_own(
            SimpleNamespace(patcher=SimpleNamespace(load_device=torch.device(a))), torch.device(b)
        )
        for a, b in zip(own, asked, strict=True)
    ]
    assert found == [True, True, True, False, False, True, True]
    for bf16, fp16, expected in (
        (True, True, torch.bfloat16),
        (False, True, torch.float16),
        (False, False, torch.float32),
    ):
        management.should_use_bf16.return_value = bf16
        management.should_use_fp16.return_value = fp16
        for kind in DEVICES:
            assert fastest(torch.device(kind)) == expected
        assert fastest(torch.device("cpu")) == torch.float32


# Triton


@pytest.fixture
def card(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[PretendDevice]:
    """A pretended NVIDIA card, or AMD's under ROCm, that a kernel could be for."""
    if getattr(request, "param", "cuda") == "rocm":
        monkeypatch.setattr(torch.version, "hip", "6.4.43482")
        monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (11, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (GIB, GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    monkeypatch.setattr(kernels, "_reasons_given", set())
    kernels.usable.cache_clear()
    yield PretendDevice("cuda")
    kernels.usable.cache_clear()


class Broken(importlib.abc.MetaPathFinder):
    """Found, but its import fails, as where a driver is missing."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        if name == "triton":
            raise ImportError("DLL load failed while importing libtriton")


def forget_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "swinir_core.kernels."
    for name in list(sys.modules):
        if name.partition(".")[0] == "triton" or name.startswith(ours):
            monkeypatch.delitem(sys.modules, name)
    for name in ("self_check", "window_attention"):
        monkeypatch.delattr(kernels, name, raising=False)


@pytest.mark.parametrize("card", ["cuda", "rocm"], indirect=True)
@pytest.mark.parametrize("state", ["missing", "broken", "no driver", "no compiler"])
def test_without_a_working_triton_the_plain_path_is_taken(
    state: str,
    card: PretendDevice,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    if state in ("missing", "broken"):
        forget_triton(monkeypatch)
    if state == "missing":
        monkeypatch.setitem(sys.modules, "triton", None)
    elif state == "broken":
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    elif not kernels.importlib.util.find_spec("triton"):
        pytest.skip("Triton is not installed")
    elif state == "no compiler":
        from swinir_core.kernels import self_check

        def fail(*_: object) -> None:
            raise RuntimeError("Failed to find C compiler.")

        monkeypatch.setattr(self_check, "check", fail)

    image = photograph(20, 27)[None]
    for config in (SMALL, replace(SMALL, num_heads=(1, 3))):
        model = network(config)
        expected = Restorer(model)(image)
        with card:
            for dtype in (torch.float32, torch.float16):
                result = Restorer(moved(model, card.device, dtype))(image)
                assert (result - expected).abs().max() <= (1e-5 if dtype.itemsize == 4 else 0.1)
    ours = [record for record in caplog.records if record.name.startswith("swinir_core")]
    assert len(ours) == (state != "missing")
    assert all(record.levelno <= logging.INFO for record in ours)


# The system


def run_python(
    script: str, *flags: str, folder: Path, encoding: str = "utf-8", **environment: str
) -> str:
    done = subprocess.run(
        [sys.executable, *flags, "-c", script],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": encoding,
            **environment,
        },
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(encoding)
    return done.stdout.decode(encoding)


IMPORT_ALL = """
import accelerate, importlib, pkgutil, sys, torch, warnings
import torch.optim.swa_utils, torch.utils.data, torch.utils._python_dispatch
sys.modules["triton"] = None
warnings.simplefilter("error")
import swinir_core
for name in swinir_core.__all__:
    getattr(swinir_core, name)
for module in pkgutil.walk_packages(swinir_core.__path__, "swinir_core."):
    if module.name not in ("swinir_core.__main__", "swinir_core.kernels.self_check",
                           "swinir_core.kernels.window_attention"):
        importlib.import_module(module.name)
"""


def test_imports_without_a_warning_and_without_triton(tmp_path: Path) -> None:
    run_python(IMPORT_ALL, folder=tmp_path)


USE_ALL = """
import sys
from pathlib import Path
import numpy as np
from swinir_core import Restorer, load_model
from swinir_core.cli import main
from swinir_core.image_io import Image, write_image
from tests.training.runs import config_text, save_photograph

for number in range(3):
    save_photograph(Path("photographs", f"{number}.png"), seed=number)
Path("config.toml").write_text(config_text({"schedule": {"steps": 2}}), encoding="utf-8")
model = ["--model", "denoise_color_light", "--device", "cpu"]
assert main(["restore", "photographs", "-o", "out", *model]) == 0
assert main(["restore", "photographs/0.png", "-o", "out.tif", "--tile", "32", *model]) == 0
assert main(["evaluate", "--data", "photographs", "--json", "scores.json", *model]) == 0
assert main(["convert", "real_x4_light", "model.safetensors"]) == 0
assert main(["info", "model.safetensors"]) == 0
assert main(["models"]) == 0
assert main(["train", "config.toml"]) == 0
assert main(["train", "laptop_denoise", "--show"]) == 0
"""

POOR = """
# What Python on Windows has not got; libraries for Linux may have asked before.
import os, signal, sys
import accelerate, imagecodecs, PIL.Image, psutil, skimage, spandrel, tifffile, torch, tqdm.auto
import accelerate.utils, torch.distributed, torch.utils.data, torch.optim.swa_utils
for name in ("fork", "forkpty", "sched_getaffinity", "getuid", "geteuid", "uname", "nice", "mkfifo",
             "statvfs", "symlink", "link", "O_DIRECTORY", "O_NOFOLLOW", "getloadavg"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGKILL", "SIGALRM", "SIGHUP", "SIGUSR1", "alarm", "setitimer", "pthread_sigmask"):
    delattr(signal, name)
for name in ("resource", "fcntl", "termios", "pwd", "grp", "readline", "triton"):
    sys.modules[name] = None
"""


@pytest.mark.slow
def test_uses_nothing_that_only_linux_has(tmp_path: Path) -> None:
    run_python(POOR + USE_ALL, folder=tmp_path)


@pytest.mark.slow
def test_every_text_file_has_its_encoding_named(tmp_path: Path) -> None:
    """The default is another one on every system."""
    script = (
        "import warnings\nwarnings.filterwarnings('error', category=EncodingWarning, "
        "module='swinir_core')\n"
    )
    run_python(script + USE_ALL, "-X", "warn_default_encoding", folder=tmp_path)


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
def test_a_console_that_shows_few_letters(encoding: str, tmp_path: Path) -> None:
    script = """
from pathlib import Path
from swinir_core.cli import main
from tests.training.runs import save_photograph
save_photograph(Path("Füße ✓ 図.png"), 16, 16)
given = ["--model", "denoise_color_light", "--device", "cpu"]
assert main(["restore", "Füße ✓ 図.png", "-o", "out", *given]) == 0
assert main(["restore", "図.jpg", "-o", "out", *given]) == 1
for command in ("restore", "evaluate", "train", "info", "convert", "benchmark", "models"):
    try:
        main([command, "--help"])
    except SystemExit as end:
        assert end.code == 0
"""
    output = run_python(script, folder=tmp_path, encoding=encoding, PYTHONUTF8="0")
    assert "\\u56f3.png" in output
    assert Path(tmp_path, "out", "Füße ✓ 図.png").is_file()


def test_an_old_processor_gives_the_same_picture(tmp_path: Path) -> None:
    script = """
import json, torch
from swinir_core import Restorer
from tests.determinism_cases import network, photograph
results = {"capability": torch.backends.cpu.get_cpu_capability()}
for name in ("float32", "bfloat16"):
    run = Restorer(network(dtype=getattr(torch, name)))
    results[name] = run(photograph(20, 27)[None]).flatten().tolist()
print(json.dumps(results))
"""
    old = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}
    found = json.loads(run_python(script, folder=tmp_path, MKL_ENABLE_INSTRUCTIONS="SSE4_2", **old))
    if found.pop("capability") not in ("DEFAULT", "NO AVX"):
        pytest.skip("this build of torch cannot be held back")
    expected = Restorer(network())(photograph(20, 27)[None]).flatten()
    assert (torch.tensor(found["float32"]) - expected).abs().max() <= 1e-5
    assert (torch.tensor(found["bfloat16"]) - expected).abs().max() <= 0.2


FOREIGN = {"fork", "sched_getaffinity", "getuid", "geteuid", "symlink", "symlink_to", "hardlink_to"}
FOREIGN |= {"link", "mkfifo", "uname", "statvfs", "nice", "setrlimit", "getrlimit", "SIGKILL"}
FOREIGN |= {"SIGALRM", "SIGHUP", "alarm", "environ", "getenv", "environb"}
FOREIGN |= {"getbuffer"}
"""The last is that of ``BytesIO``: Python 3.12.1 dies where its garbage collector meets one."""


@pytest.mark.parametrize("folder", ["swinir_core", "nodes"])
def test_no_module_asks_the_environment_or_what_one_system_has(folder: str) -> None:
    found = []
    for path in sorted(ROOT.joinpath(folder).rglob("*.py")):
        for part in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(part, ast.Attribute) and part.attr in FOREIGN:
                found.append(f"{path.name}:{part.lineno} {part.attr}")
    assert found == []
