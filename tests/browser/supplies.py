"""Files that some examples ask the user to bring, made small enough for a test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import safetensors.torch

import swinir_core as sc
from tests.browser.workflows.parts import CHECKPOINT, ESRGAN
from tests.host.comfy_host import ComfyHost
from tests.support.reference import fresh_reference


def bring_upscale_model(host: ComfyHost) -> Path:
    """A file the host's own loader knows: our model for x4, with the buffers it insists on."""
    model = sc.load_model("upscale_x4_light")
    buffers = dict(fresh_reference(model.config).named_buffers())
    weights = {key: value.contiguous() for key, value in {**model.state_dict(), **buffers}.items()}
    file = host.base / "models" / "upscale_models" / ESRGAN
    safetensors.torch.save_file(weights, file)
    return file


def make_checkpoint(home: Path, python: Path, path: Path) -> None:
    """A random Stable Diffusion 1.5 of 0.5 GB, written by the host's own code."""
    script = Path(__file__).with_name("tiny_checkpoint.py")
    subprocess.run([str(python), str(script), str(home), str(path)], check=True)


def bring_checkpoint(host: ComfyHost, checkpoint: Path) -> Path:
    folder = host.base / "models" / "checkpoints"
    folder.mkdir(exist_ok=True)
    os.link(checkpoint, folder / CHECKPOINT)
    return folder / CHECKPOINT
