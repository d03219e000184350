"""Demands of the package on a system, a console, a processor and a build of Python."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from swinir_core import Restorer
from tests.support.determinism_cases import network, photograph

ROOT = Path(__file__).parents[2]


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
    if module.name not in ("swinir_core.__main__", "swinir_core.network.attention.triton_check",
                           "swinir_core.network.attention.triton_kernel"):
        importlib.import_module(module.name)
"""


def test_imports_without_a_warning_and_without_triton(tmp_path: Path) -> None:
    run_python(IMPORT_ALL, folder=tmp_path)


USE_ALL = """
import sys
from pathlib import Path
import numpy as np
from swinir_core import Restorer, load_model
from swinir_core.cli.main import main
from tests.support.image_files import Image, write_image
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
from swinir_core.cli.main import main
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
from tests.support.determinism_cases import network, photograph
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
