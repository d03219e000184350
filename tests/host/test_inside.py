"""The checks of ``inside.py``, run once by the Python of the host."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.host.conftest import PACK_FOLDER, find_home, find_python, save, save_official, tiny_model

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore:torch.meshgrid")]

SCRIPT = Path(__file__).with_name("inside.py")
CHECKS = re.findall(r"^def (check_\w+)", SCRIPT.read_text("utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    home = find_home()
    base = tmp_path_factory.mktemp("inside")
    for folder in ("swinir", "upscale_models"):
        (base / "models" / folder).mkdir(parents=True)
    gray = tiny_model(in_channels=1, scale=1, upsampler="none")
    save(tiny_model(), base / "models" / "swinir" / "x2.safetensors")
    save(gray, base / "models" / "swinir" / "gray.safetensors")
    save_official(tiny_model(), base / "models" / "upscale_models" / "x2.pth")
    done = subprocess.run(
        [find_python(home), SCRIPT, home, PACK_FOLDER, base],
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CHECKS)
def test_inside(results: dict[str, str], name: str) -> None:
    if results[name]:
        pytest.fail(results[name], pytrace=False)
