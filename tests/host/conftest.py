"""The session's host, and models and pictures small enough for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

import swinir_core as sc
from tests.host.comfy_host import PACK, ComfyHost
from tests.support.reference import fresh_reference

REPOSITORY = Path(__file__).parents[2]
PACK_FOLDER = Path(os.environ.get("SWINIR_PACK", REPOSITORY))
"""Folder that the host loads: this checkout, or an unpacked archive of the registry."""
TRACEBACK = re.compile(r"Traceback.*\n(?:[ \t].*\n)*")
COMPLAINT = re.compile(rf"^.*(?:ERROR|WARNING|FAILED|Cannot import).*{PACK}.*$", re.MULTILINE)


def find_home() -> Path:
    """The checkout to test; skips or fails loudly where there is none."""
    given = os.environ.get("COMFYUI_PATH")
    home = Path(given or "~/ComfyUI").expanduser()
    if (home / "main.py").is_file():
        return home
    if given:
        pytest.fail(f"COMFYUI_PATH is {given}, but there is no main.py.")
    pytest.skip(
        "NO HOST, so nothing was tested in ComfyUI: set COMFYUI_PATH to a checkout of it, or put "
        "one into ~/ComfyUI, with its requirements in its venv or in this Python."
    )


def find_python(home: Path) -> Path:
    """The Python that has what the host needs."""
    environments = [home / folder for folder in ("venv", ".venv")]
    paths = [e / tail for e in environments for tail in ("bin/python", "Scripts/python.exe")]
    for python in (*paths, Path(sys.executable)):
        if not python.is_file():
            continue
        check = [str(python), "-c", "import torch, aiohttp, spandrel, av, comfyui_frontend_package"]
        if subprocess.run(check, capture_output=True).returncode == 0:
            return python
    pytest.skip(
        f"NO PYTHON FOR THE HOST, so nothing was tested in ComfyUI: {home} has no venv with its "
        f"requirements, and they are not in {sys.executable} either (see COMFYUI_PATH)."
    )


@pytest.fixture(scope="session")
def session_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyHost]:
    home = find_home()
    host = ComfyHost(home, find_python(home), PACK_FOLDER, tmp_path_factory.mktemp("comfy") / "b")
    try:
        host.wait_until_ready()
        yield host
    finally:
        host.stop()


@pytest.fixture
def host(session_host: ComfyHost) -> Iterator[ComfyHost]:
    """The host; its log must stay clean, and is shown when a test fails."""
    yield session_host
    log = session_host.new_log()
    print(log)  # noqa: T201 - pytest shows it below a failure
    assert trouble_in(log) == []


def trouble_in(log: str) -> list[str]:
    """Tracebacks through our pack and complaints about it; hosts have troubles of their own."""
    ours = [block for block in TRACEBACK.findall(log) if PACK in block]
    return ours + COMPLAINT.findall(log)


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """(72, 88, 3) uint8: smooth colours, edges and grain; no side is a multiple of a window."""
    return make_picture(0)


def make_picture(seed: int, height: int = 72, width: int = 88) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 16
    waves = [np.sin(x * a + seed) * np.cos(y * b) for a, b in ((1, 2), (2, 1), (1.5, 0.5))]
    picture = 127 + 80 * np.stack(waves, axis=-1) + rng.normal(0, 12, (height, width, 3))
    picture[20:40, 30:50] = 255 - picture[20:40, 30:50]
    return picture.clip(0, 255).astype(np.uint8)


def to_tensor(picture: np.ndarray) -> torch.Tensor:
    """(N, H, W, C) or (H, W, C) uint8 to a batch of floats in 0..1, as ``LoadImage`` does it."""
    batch = picture if picture.ndim == 4 else picture[None]
    return torch.from_numpy(batch.astype(np.float32) / 255)


def assert_same(saved: np.ndarray, expected: torch.Tensor) -> None:
    """``saved`` (H, W, C) or (N, H, W, C) is ``expected`` (N, H, W, C) in 0..1, to one step of 8
    bits."""
    wanted = (expected * 255).to(torch.uint8).numpy().astype(int)  # As SaveImage rounds.
    got = saved if saved.ndim == 4 else saved[None]
    assert got.shape == wanted.shape
    assert wanted.std() > 5, "a picture this flat would prove nothing"
    assert np.abs(got - wanted).max() <= 1


def tiny_model(seed: int = 0, **changes: Any) -> sc.SwinIR:
    """A small network with random weights, its last convolution set to give pictures contrast."""
    values: dict = {
        **{"scale": 2, "in_channels": 3, "embed_dim": 12, "depths": (2,), "num_heads": (2,)},
        **{"window_size": 8, "mlp_ratio": 2.0, "upsampler": "pixelshuffledirect"},
    }
    config = sc.SwinIRConfig(**values | changes)
    model = sc.SwinIR(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.normal_(0, 0.15, generator=generator)
    picture = to_tensor(make_picture(0)).movedim(-1, 1)[:, : config.in_channels]
    last = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    assert last.bias is not None
    before = picture if config.upsampler == "none" else 0.4
    change = (model(picture) - before) * config.img_range
    last.bias -= change.mean()
    for parameter in last.parameters():
        parameter *= 0.15 * config.img_range / change.std()
    return model


def save(model: sc.SwinIR, path: Path, metadata: dict[str, str] | None = None) -> Path:
    sc.write_checkpoint(path, sc.Checkpoint(model.config, dict(model.state_dict()), metadata or {}))
    return path


def save_official(model: sc.SwinIR, path: Path) -> None:
    """As the reference implementation saves it, with the buffers that spandrel insists on."""
    buffers = dict(fresh_reference(model.config).named_buffers())
    torch.save({"params": {**model.state_dict(), **buffers}}, path)


@pytest.fixture(scope="session")
def models(session_host: ComfyHost) -> Path:
    """The folder of our models in the host."""
    return session_host.base / "models" / "swinir"


@pytest.fixture(scope="session")
def upscale_models(session_host: ComfyHost) -> Path:
    """The folder of the host's own upscale models."""
    return session_host.base / "models" / "upscale_models"


@pytest.fixture(scope="session")
def compact(upscale_models: Path) -> Path:
    """A small model of another architecture, in the host's own folder."""
    torch.manual_seed(0)
    network = SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2)
    path = upscale_models / "compact.pth"
    torch.save({"params": network.state_dict()}, path)
    return path
