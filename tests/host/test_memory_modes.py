"""The checks of ``memory_modes.py``, in every mode in which the host manages a card's memory."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

import swinir_core as sc
from tests.host.conftest import (
    PACK_FOLDER,
    find_home,
    find_python,
    make_picture,
    save,
    save_official,
    tiny_model,
    to_tensor,
)

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore:torch.meshgrid")]

SCRIPT = Path(__file__).with_name("memory_modes.py")
CHECKS = re.findall(r"^def (check_\w+)", SCRIPT.read_text("utf-8"), re.MULTILINE)
MODES = {
    "normal": [],
    "lowvram": ["--lowvram"],
    "novram": ["--novram"],
    "highvram": ["--highvram"],
    "gpu_only": ["--gpu-only"],
    "no_smart_memory": ["--disable-smart-memory"],
    "half_between_nodes": ["--fp16-intermediates"],
    "dynamic": ["--disable-pinned-memory"],
    "dynamic_streamed": ["--disable-pinned-memory"],
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("memory")
    for folder in ("swinir", "upscale_models"):
        (base / "models" / folder).mkdir(parents=True)
    # Large enough layers for a host that streams weights from 16 KB on.
    model = tiny_model(embed_dim=36, depths=(2, 2), num_heads=(6, 6))
    save(model, base / "models" / "swinir" / "x2.safetensors")
    save(tiny_model(1), base / "models" / "swinir" / "second.safetensors")
    save_official(model, base / "models" / "upscale_models" / "x2.pth")
    network = SRVGGNetCompact(num_feat=8, num_conv=2, upscale=2)
    torch.save({"params": network.state_dict()}, base / "models/upscale_models/compact.pth")
    image = to_tensor(make_picture(0, 44, 52))
    np.save(base / "image.npy", image.numpy())
    np.save(base / "restored.npy", sc.Restorer(model)(image).numpy())
    return base


@pytest.fixture(scope="module", params=MODES)
def results(request: pytest.FixtureRequest, base: Path) -> dict[str, str]:
    home = find_home()
    known = (home / "comfy" / "cli_args.py").read_text("utf-8")
    missing = [flag for flag in MODES[request.param] if flag not in known]
    if missing:
        pytest.skip(f"this host has no {' '.join(missing)}")
    done = subprocess.run(
        [find_python(home), SCRIPT, home, PACK_FOLDER, base, request.param, *MODES[request.param]],
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CHECKS)
def test_memory_mode(results: dict[str, str], name: str) -> None:
    if results[name]:
        pytest.fail(results[name], pytrace=False)
