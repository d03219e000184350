"""The checks of ``memory_modes.py``, in every mode in which the host manages a card's memory."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
# --lowvram lies between normal and --novram, --highvram between normal and --gpu-only.
MODES = {
    "normal": [],
    "novram": ["--novram"],
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


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, base: Path) -> Iterator[dict[str, Future[str]]]:
    """The modes that are to be tested, two at a time."""
    home = find_home()
    python, known = find_python(home), (home / "comfy" / "cli_args.py").read_text("utf-8")

    def run(mode: str) -> str:
        missing = [flag for flag in MODES[mode] if flag not in known]
        if missing:
            pytest.skip(f"this host has no {' '.join(missing)}")
        command = [python, SCRIPT, home, PACK_FOLDER, base, mode, *MODES[mode]]
        done = subprocess.run(command, cwd=home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    specs = [getattr(item, "callspec", None) for item in request.session.items]
    asked = {spec.params.get("mode") for spec in specs if spec is not None}
    with ThreadPoolExecutor(2) as pool:
        yield {mode: pool.submit(run, mode) for mode in MODES if mode in asked}


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize("mode", MODES)
def test_memory_mode(runs: dict[str, Future[str]], mode: str, name: str) -> None:
    trouble = json.loads(runs[mode].result())[name]
    if trouble:
        pytest.fail(trouble, pytrace=False)
