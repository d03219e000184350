"""Description of the machine that measures, and time taken on it."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from torch import Tensor


def describe(device: torch.device) -> dict[str, Any]:
    """Processor, memory, device and versions, as plain values for a JSON file."""
    machine: dict[str, Any] = {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.machine()}",
        "device": device.type,
    }
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        machine |= {"device": properties.name, "device_memory_bytes": properties.total_memory}
        if torch.version.cuda:  # None where HIP stands in for CUDA.
            versions["cuda"] = torch.version.cuda
    for package in ("spandrel", "swinir-restore"):
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return {"machine": machine, "versions": versions}


def processor() -> str:
    """The maker's name of the processor on Linux, elsewhere what ``platform`` knows."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def gemm_rate(
    device: torch.device,
    side: int = 8192,
    rounds: int = 20,
    dtype: torch.dtype = torch.bfloat16,
) -> float:
    """Floating point operations a second of one product of two (side, side) matrices, the median of
    ``rounds``: the bound of a network that is all products."""
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    seconds = [time_run(partial(a.matmul, b), device)[0] for _ in range(rounds + 3)]
    return 2 * side**3 / median(seconds[3:])  # Three runs to warm up.


def copy_rate(device: torch.device, size: int = 2**30, rounds: int = 20) -> float:
    """Bytes a second read and written, together, by a copy of ``size`` bytes, the median of
    ``rounds``: the bound of a network that is all elementwise."""
    source, target = torch.zeros(2, size, dtype=torch.uint8, device=device)
    seconds = [time_run(partial(target.copy_, source), device)[0] for _ in range(rounds + 3)]
    return 2 * size / median(seconds[3:])


def time_run(run: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    """Seconds of ``run()`` until ``device`` has finished, and the result."""
    _synchronize(device)
    started = time.perf_counter()
    output = run()
    _synchronize(device)
    return time.perf_counter() - started, output


def _synchronize(device: torch.device) -> None:
    if device.type in ("cuda", "xpu"):
        getattr(torch, device.type).synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
