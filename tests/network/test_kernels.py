"""The Triton kernels agree with the network's own path, and are used only where they do."""

from __future__ import annotations

import importlib.util
import inspect
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from swinir_core import PRESETS, estimate_memory
from swinir_core.network.attention import triton_available as kernels
from tests.support.kernel_cases import CASES

ROOT = Path(__file__).parents[2]
GPU = torch.device("cuda", 0)

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """The report of ``kernel_cases``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.kernel_cases"],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_equals_the_network_path(interpreted: dict[str, Any], name: str) -> None:
    result = interpreted[name]
    assert result["error"] <= result["allowed"]
    assert result["overwrites q"]
    assert result["keeps k and v"]


@needs_triton
@pytest.mark.parametrize("window_size", [7, 8])
def test_network_with_the_kernel_is_the_same(interpreted: dict[str, Any], window_size: int) -> None:
    assert interpreted[f"network, window {window_size}"] <= 1e-5


@needs_triton
def test_importing_the_package_imports_no_triton(interpreted: dict[str, Any]) -> None:
    assert not interpreted["triton imported by the package"]


@needs_triton
def test_self_check(interpreted: dict[str, Any]) -> None:
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        assert interpreted[f"check {dtype}"] == ""
    assert "shifted windows are off by" in interpreted["check without mask"]


@needs_triton
@pytest.mark.parametrize(
    ("shape", "bias_shape", "message"),
    [
        ((128, 3, 2, 10), (2, 64, 49), r"bias must be .*\(2, 64, 64\); it is \(2, 64, 49\)"),
        ((100, 3, 2, 10), (2, 64, 64), "100 tokens are no whole number of maps of 1 x 2 windows"),
        ((128, 60), (2, 64, 64), r"qkv must be \(T, 3, heads, d\)"),
    ],
)
def test_shapes_that_do_not_belong_together(
    shape: tuple[int, ...], bias_shape: tuple[int, ...], message: str
) -> None:
    from swinir_core.network.attention.triton_kernel import window_attention_

    with pytest.raises(ValueError, match=message):
        window_attention_(torch.zeros(shape), torch.zeros(bias_shape), 1, 2, 8, shifted=True)


@needs_triton
def test_tokens_must_be_contiguous() -> None:
    from swinir_core.network.attention.triton_kernel import window_attention_

    qkv = torch.zeros(64, 3, 10, 2).mT
    with pytest.raises(ValueError, match=r"contiguous; it is \(64, 3, 2, 10\) with strides"):
        window_attention_(qkv, torch.zeros(2, 64, 64), 1, 1, 8, shifted=False)


# Compiling for a device needs none, and finds what the interpreter takes but a device does not.

NVIDIA = (80, 86, 89, 90, 100, 120)
AMD = {"gfx942": 64, "gfx1100": 32}
"""Architectures and threads of a warp."""

COMPILED = [
    *((architecture, dtype, 8, 30) for architecture in NVIDIA for dtype in ("bf16", "fp32")),
    *((80, "fp16", size, head_dim) for size in (7, 8) for head_dim in (10, 16, 30, 32)),
    *((120, "fp16", size, head_dim) for size, head_dim in ((7, 30), (8, 10))),
    *((90, dtype, 16, 32) for dtype in ("fp16", "fp32")),
    *((90, "bf16", size, 10) for size in (2, 4)),
]
COMPILED_FOR_AMD = [
    *((architecture, dtype, 8, 30) for architecture in AMD for dtype in ("bf16", "fp32")),
    *((architecture, "fp16", 7, 30) for architecture in AMD),
    *((architecture, "fp32", 8, 10) for architecture in AMD),
]
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


@pytest.fixture
def compiled_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The kernel compiled for a target, from its type, window, head dimension and warps."""
    import triton
    from triton.compiler import ASTSource

    from swinir_core.network.attention.triton_kernel import attend_window, kernel_options

    if not isinstance(attend_window, triton.JITFunction):
        pytest.skip("Triton interprets here")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))

    def compiled(target: Any, dtype: str, size: int, head_dim: int, warps: int) -> Any:
        options = kernel_options(warps, head_dim, size, shifted=True)
        constants = {name: options.pop(name) for name in attend_window.arg_names[5:]}
        numbers = dict.fromkeys(("heads", "rows", "columns"), "i32")
        signature = {"qkv": f"*{dtype}", "bias": "*fp32"} | numbers
        if "constexprs" in inspect.signature(ASTSource).parameters:
            aligned = [["tt.divisibility", 16]]
            source = ASTSource(
                attend_window,
                signature=signature | dict.fromkeys(constants, "constexpr"),
                constexprs=constants,
                attrs={(0,): aligned, (1,): aligned},
            )
        elif target.backend == "hip" or target.arch >= 100:
            pytest.skip("Triton 3.2, of torch 2.6, dies of an architecture it does not know")
        else:
            source = ASTSource(attend_window, signature, constants)
        return triton.compile(source, target, options)

    return compiled


def triton_version() -> tuple[int, ...]:
    import triton

    return tuple(map(int, triton.__version__.split(".")[:2]))


@needs_triton
@pytest.mark.parametrize(("architecture", "dtype", "size", "head_dim"), COMPILED)
def test_compiles_and_keeps_all_in_registers(
    architecture: int,
    dtype: str,
    size: int,
    head_dim: int,
    compiled_for: Callable[..., Any],
    tmp_path: Path,
) -> None:
    import triton
    from triton.backends.compiler import GPUTarget

    from swinir_core.network.attention.triton_kernel import warps_for

    target = GPUTarget("cuda", architecture, 32)
    compiled = compiled_for(target, dtype, size, head_dim, warps_for(DTYPES[dtype]))

    # Offsets of large maps exceed 32 bits.
    assert re.search(r"arith\.muli .*tensor<\d+x1xi64>", compiled.asm["ttir"])
    # Tensor cores for half precision, and no products of 19 bits for float32.
    assert ("mma" in compiled.asm["ptx"]) == (dtype != "fp32")
    binary = tmp_path / "kernel.cubin"
    binary.write_bytes(compiled.asm["cubin"])
    tool = Path(str(triton.__file__)).parent / "backends/nvidia/bin/cuobjdump"
    if not tool.exists():
        pytest.skip("this build of Triton does not bring cuobjdump")
    usage = subprocess.check_output([tool, "--dump-resource-usage", binary], text=True)
    assert compiled.metadata.shared <= 99 * 1024
    if triton_version() >= (3, 6):  # Before, up to 600 bytes.
        assert "STACK:0" in usage, usage


@needs_triton
@pytest.mark.parametrize(("architecture", "dtype", "size", "head_dim"), COMPILED_FOR_AMD)
def test_compiles_for_amd_and_keeps_all_in_registers(
    architecture: str, dtype: str, size: int, head_dim: int, compiled_for: Callable[..., Any]
) -> None:
    from triton.backends import backends
    from triton.backends.compiler import GPUTarget

    from swinir_core.network.attention.triton_kernel import warps_for

    if "amd" not in backends:
        pytest.skip("this build of Triton does not know AMD")
    warp = AMD[architecture]
    target, warps = GPUTarget("hip", architecture, warp), warps_for(DTYPES[dtype], warp)
    compiled = compiled_for(target, dtype, size, head_dim, warps)
    found = dict(re.findall(r"\.(\w+):\s+(\d+)$", compiled.asm["amdgcn"], re.MULTILINE))
    kept = ("vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size")
    if triton_version() >= (3, 6):
        assert {name: found[name] for name in kept} == dict.fromkeys(kept, "0")
    assert compiled.metadata.shared <= 64 * 1024
    # Its matrix cores: those of CDNA know float32 as well.
    matrices = "v_mfma" if architecture == "gfx942" else "v_wmma"
    assert (matrices in compiled.asm["amdgcn"]) == (dtype != "fp32" or architecture == "gfx942")


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that seems to have an Ampere GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(kernels, "_reasons_given", set())
    monkeypatch.setattr(kernels, "_works", {})


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The self checks asked for, which all pass."""
    from swinir_core.network.attention import triton_check as self_check

    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(self_check, "check", lambda *arguments: asked.append(arguments))
    return asked


@needs_triton
@pytest.mark.usefixtures("on_gpu")
def test_usable_where_the_self_check_passes_once(checks: list[tuple[Any, ...]]) -> None:
    for _ in range(2):
        assert kernels.usable(GPU, torch.float16, 8, 30)
    assert checks == [(GPU, torch.float16, 8, 30)]


@needs_triton
@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize(
    ("device", "dtype", "size", "head_dim"),
    [
        pytest.param(torch.device("cpu"), torch.float32, 8, 30, id="CPU"),
        pytest.param(torch.device("mps"), torch.float16, 8, 30, id="MPS"),
        pytest.param(GPU, torch.float64, 8, 30, id="float64"),
        pytest.param(GPU, torch.float16, 17, 30, id="window"),
        pytest.param(GPU, torch.float16, 8, 65, id="head"),
    ],
)
def test_not_usable_for(
    device: torch.device,
    dtype: torch.dtype,
    size: int,
    head_dim: int,
    checks: list[tuple[Any, ...]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert not kernels.usable(device, dtype, size, head_dim)
    assert not checks
    assert not caplog.records


@needs_triton
@pytest.mark.usefixtures("on_gpu")
def test_not_usable_on_an_older_gpu(
    checks: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert not kernels.usable(GPU, torch.float16, 8, 30)
    assert not checks


@pytest.mark.usefixtures("on_gpu")
def test_not_usable_without_triton(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    assert not kernels.usable(GPU, torch.float16, 8, 30)
    assert not caplog.records


@needs_triton
@pytest.mark.usefixtures("on_gpu")
def test_failing_self_check_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from swinir_core.network.attention import triton_check as self_check

    def fail(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC.")

    monkeypatch.setattr(self_check, "check", fail)
    caplog.set_level(logging.DEBUG)
    for head_dim in (30, 30, 10):
        assert not kernels.usable(GPU, torch.float16, 8, head_dim)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert record.name == "swinir_core.network.attention.triton_available"
    message = record.getMessage()
    assert "takes the plain path" in message
    assert "cuda:0 (torch.float16, window 8, head dimension 30)" in message
    assert "RuntimeError: Failed to find C compiler. Please specify via CC." in message


@needs_triton
@pytest.mark.usefixtures("on_gpu")
def test_full_memory_does_not_switch_the_kernel_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from swinir_core.network.attention import triton_check as self_check

    full = [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 MiB."),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ]

    def check(*_: object) -> None:
        if full:
            raise full.pop()

    monkeypatch.setattr(self_check, "check", check)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="out of memory"):
            kernels.usable(GPU, torch.float16, 8, 30)
    assert kernels.usable(GPU, torch.float16, 8, 30)


@needs_triton
@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_estimate_counts_q_k_and_v_of_all_tokens_and_compiles_nothing(
    checks: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    config = PRESETS["classical_sr_x4"]
    size = (1000, 1024)

    def estimate() -> int:
        return estimate_memory(config, *size, batch=2, dtype=dtype, device=GPU)

    with_kernel = estimate()
    assert not checks
    monkeypatch.setitem(kernels._works, (GPU, dtype, 8, 30), False)  # As after a failed check.
    qkv = 3 * config.embed_dim * 2 * 1000 * 1024 * dtype.itemsize
    assert with_kernel - estimate() == qkv


@needs_triton
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_agrees_on_this_gpu(dtype: torch.dtype) -> None:
    from swinir_core.network.attention.triton_check import check

    for size, head_dim in ((8, 30), (7, 10), (16, 32)):
        check(GPU, dtype, size, head_dim)
