"""Cases that ``test_determinism`` computes in processes of its own, to compare their bytes.

``python -m tests.support.determinism_cases`` prints one JSON object of a digest for each case. With
``--reversed`` the process has another history: the cases are run in the other order, each a second
time after another model ran and numbers were drawn from the generators of the whole process.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate.state import AcceleratorState
from skimage import data
from torch import Tensor

from swinir_core import (
    Checkpoint,
    Restorer,
    SwinIR,
    SwinIRConfig,
    TileSettings,
    load_model,
    write_checkpoint,
)
from swinir_core.cli.main import main as command
from swinir_core.degradation.blind import degrade_blindly
from swinir_core.degradation.noise_and_jpeg import add_gaussian_noise, jpeg_compress
from swinir_core.degradation.samples import degraded, read_sample
from swinir_core.images.resize import bicubic_resize
from swinir_core.network.initialisation import init_weights
from swinir_core.restoration.overlap import pattern
from swinir_core.training.start import train
from tests.support.reference import GRAY, SMALL, our_network, reference_network
from tests.training.runs import GAN, save_photograph, tiny_config

FORMATS = ("png", "tif", "jpg", "webp")


def network(config: SwinIRConfig = SMALL, dtype: torch.dtype = torch.float32) -> SwinIR:
    weights = our_network(config, reference_network(config)).state_dict()
    model = SwinIR(config, dtype=dtype)
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def photograph(height: int, width: int) -> Tensor:
    """(H, W, 3) float32 in 0..1."""
    return torch.from_numpy(data.astronaut()[100 : 100 + height, 150 : 150 + width]).float() / 255


def restored(dtype: torch.dtype = torch.float32, tiles: TileSettings | None = None) -> bytes:
    images = torch.stack([photograph(40, 72), photograph(40, 72).flip(1)])
    return Restorer(network(dtype=dtype))(images, tiles).numpy().tobytes()


def restored_with_everything() -> bytes:
    images = torch.cat([photograph(40, 48), photograph(40, 48)[..., :1]], dim=-1)[None]
    mask = torch.linspace(-1, 1, 40 * 48).clamp(0, 1).view(1, 40, 48)
    restorer = Restorer(network(), ensemble=True)
    return restorer(images, TileSettings("tiled", 32, 8), mask=mask).numpy().tobytes()


def bundled() -> bytes:
    return Restorer(load_model("upscale_x2_light"))(photograph(32, 40)[None]).numpy().tobytes()


def model_file() -> bytes:
    metadata = {name: f"{name}: é\n" for name in ("author", "description", "licence", "scores")}
    checkpoint = Checkpoint(SMALL, network().state_dict(), metadata)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        write_checkpoint(path, checkpoint, torch.float16)
        return path.read_bytes()


def image_file(suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        model, source = Path(folder, "model.safetensors"), Path(folder, "in.png")
        write_checkpoint(model, Checkpoint(SMALL, network().state_dict()))
        save_photograph(source)
        target = Path(folder, f"out.{suffix}")
        given = ["--model", str(model), "--device", "cpu"]
        assert command(["restore", str(source), "-o", str(target), *given]) == 0
        return target.read_bytes()


def converted_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "out.safetensors")
        assert command(["convert", "real_x4_light", str(target)]) == 0
        return target.read_bytes()


def trained() -> bytes:
    """The files of two runs, one of them adversarial, that do not tell the time."""
    found = b""
    for changes in ({}, GAN):
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(3):
                save_photograph(Path(folder, "photographs", f"{seed}.png"), seed=seed)
            save_photograph(Path(folder, "others", "3.png"), seed=3)
            # A step that takes long is no reason for another file.
            every = {"run": {"validate_every": 2, "log_every": 2}, "data": {"validate": "others"}}
            config = tiny_config(Path(folder), changes, every, {"schedule": {"drop_path": 0.5}})
            assert train(config)
            for path in sorted(config.run.out.rglob("*")):
                if path.suffix in (".safetensors", ".png") and path.name != "curves.png":
                    found += path.name.encode() + path.read_bytes()
        AcceleratorState._reset_state(reset_partial_state=True)
    return found


def begun() -> bytes:
    model = SwinIR(SMALL)
    init_weights(model, seed=3)
    return b"".join(weight.numpy().tobytes() for weight in model.state_dict().values())


def sample() -> bytes:
    image, original = degraded(read_sample("cat"), 2, noise=25, jpeg_quality=40, seed=5)
    return image.tobytes() + original.tobytes()


def blind(scale: int) -> bytes:
    image = photograph(48, 64).numpy()
    results = [degrade_blindly(image, scale, np.random.default_rng(seed)) for seed in range(8)]
    return np.stack(results).tobytes()


def noise_and_jpeg() -> bytes:
    image, random = photograph(48, 64).numpy(), np.random.default_rng(7)
    noisy = add_gaussian_noise(image, (5.0, 50.0), random)
    levels = (image * 255).astype(np.uint8)
    return noisy.tobytes() + jpeg_compress(levels, (10, 40), random).tobytes()


CASES: dict[str, Callable[[], bytes]] = {
    "float32": restored,
    "bfloat16": lambda: restored(torch.bfloat16),
    "float16": lambda: restored(torch.float16),
    "float64": lambda: restored(torch.float64),
    "tiles": lambda: restored(tiles=TileSettings("tiled", 32)),
    "little memory": lambda: restored(tiles=TileSettings(overlap=8, memory_budget=10**6)),
    "ensemble, tiles, alpha and a mask": restored_with_everything,
    "a bundled model": bundled,
    "overlap": lambda: pattern(3, 96).numpy().tobytes() + bytes([Restorer(network()).overlap]),
    "model file": model_file,
    "converted model": converted_file,
    **{f"{suffix} file": lambda suffix=suffix: image_file(suffix) for suffix in FORMATS},
    "training": trained,
    "first weights": begun,
    "sample image": sample,
    "blind degradation x2": lambda: blind(2),
    "blind degradation x4": lambda: blind(4),
    "noise and JPEG": noise_and_jpeg,
    "bicubic": lambda: bicubic_resize(photograph(48, 64).numpy(), 1 / 3).tobytes(),
}


def digests(backwards: bool) -> dict[str, str]:
    found = {}
    for name in reversed(CASES) if backwards else CASES:
        if backwards:
            CASES[name]()
            Restorer(network(GRAY))(torch.rand(2, 30, 30, 1))
            np.random.rand(3)  # noqa: NPY002 - the generator of the whole process
        found[name] = hashlib.sha256(CASES[name]()).hexdigest()
    return found


if __name__ == "__main__":
    with tempfile.TemporaryFile("w+") as unwanted:
        stdout, sys.stdout = sys.stdout, unwanted  # What the command says.
        result = digests("--reversed" in sys.argv)
        sys.stdout = stdout
    print(json.dumps(result))  # noqa: T201 - this is how the answer leaves the process
