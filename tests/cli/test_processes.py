"""Several processes, and runs that go on where one stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from swinir_core.cli.main import main
from swinir_core.cli.options import UsageError
from swinir_core.cli.processes import Processes, join_processes
from tests.support.image_files import Image, read_image, write_image

ROOT = Path(__file__).parents[2]
NAMES = [f"{number}.png" for number in range(5)]


@pytest.fixture(autouse=True)
def _images(model: str) -> None:
    """A folder of five images beside the model."""
    random = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        write_image(Path("set", name), Image(random.random((20 + number, 24, 3), np.float32)))


def restore(model: str, *arguments: str) -> int:
    return main(["restore", *arguments, "--model", model, "--device", "cpu"])


def test_every_item_has_one_process() -> None:
    items = [Processes(index, 3).own(range(8)) for index in range(3)]
    assert items == [range(0, 8, 3), range(1, 8, 3), range(2, 8, 3)]


def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    devices = [Processes(index, 6, index % 3).device("cuda") for index in range(6)]
    assert devices == ["cuda:0", "cuda:1", "cuda:0"] * 2
    assert Processes(1, 2, 1).device("cpu") == "cpu"
    assert Processes().device("cuda:1") == "cuda:1"
    with pytest.raises(UsageError, match="--device cuda:1: each process takes"):
        Processes(1, 2, 1).device("cuda:1")


def test_alone_without_a_launcher() -> None:
    alone = join_processes()
    assert alone == Processes(0, 1)
    assert alone.agreed(lambda: 3) == 3
    assert alone.gathered("x") == ["x"]


def test_a_stopped_run_goes_on(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert restore(model, "set", "-o", "out") == 0
    Path("out/1.png").unlink()
    Path("out/3.png").rename("out/.3-123-abcd.part")  # as a killed run leaves it
    before = {path: path.stat().st_mtime_ns for path in Path("out").glob("*.png")}
    capsys.readouterr()

    assert restore(model, "set", "-o", "out", "--resume") == 0
    printed = capsys.readouterr()
    assert [line.split()[0] for line in printed.out.splitlines()] == ["set/1.png", "set/3.png"]
    assert printed.err == "swinir: 3 finished before, 2 to go.\n"
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(Path("out").glob("*.png"))) == 5

    assert restore(model, "set", "-o", "out", "--resume") == 0
    assert capsys.readouterr().out == ""


def test_resuming_never_takes_an_input_for_its_result(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert restore(model, "set", "-o", "set", "--resume") == 1
    assert "its own result" in capsys.readouterr().err


def test_resume_and_overwrite_contradict_each_other(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        restore(model, "set", "-o", "out", "--resume", "--overwrite")
    assert "not allowed with" in capsys.readouterr().err


def test_restore_with_ensemble(model: str) -> None:
    assert restore(model, "set/0.png", "-o", "plain.tif") == 0
    assert restore(model, "set/0.png", "-o", "mean.tif", "--ensemble") == 0
    plain, mean = (read_image(name).pixels for name in ("plain.tif", "mean.tif"))
    assert plain.shape == mean.shape
    assert not np.array_equal(plain, mean)


BOTH = """
import contextlib, sys
from pathlib import Path
import torch.distributed as dist
from swinir_core.cli.main import main
from swinir_core.cli.processes import join_processes

rank = join_processes().index

def run(log, *arguments):
    with open(f"{log}-{rank}.log", "w") as file, contextlib.redirect_stdout(file):
        status = main([*arguments, "--model", "tiny.safetensors", "--device", "cpu"])
        assert status == 0, status

run("restore", "restore", "set", "-o", "out")
dist.barrier()
if rank == 0:
    Path("out/1.png").unlink()
    Path("out/2.png").rename("out/.2-123-abcd.part")
dist.barrier()
run("resume", "restore", "set", "-o", "out", "--resume")
run("evaluate", "evaluate", "--data", "set", "--json", "both.json")
if rank == 0:
    Path("set/4.png").write_bytes(b"no picture")
dist.barrier()
# Both know of what failed in one.
again = ["restore", "set", "-o", "again", "--model", "tiny.safetensors", "--device", "cpu"]
assert main(again) == 1
# An error on the main process ends the other quietly.
status = main(["restore", "set", "-o", "a.png", "--model", "tiny.safetensors"])
assert rank == 0 and status == 2, (rank, status)
Path("main.done").touch()
"""


@pytest.mark.slow
def test_two_processes_do_the_work_of_one(model: str) -> None:
    Path("both.py").write_text(BOTH, "utf-8")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launch += ["--nproc_per_node", "2", "both.py"]
    # The launcher would take one thread each, and their number decides on the last bits.
    threads = str(torch.get_num_threads())
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": threads}
    done = subprocess.run(
        launch, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path("main.done").exists()
    assert "is one file, but there are 5 images" in done.stderr

    def restored(log: str) -> list[list[str]]:
        texts = [Path(f"{log}-{rank}.log").read_text("utf-8") for rank in (0, 1)]
        return [[line.split()[0][4:] for line in text.splitlines()] for text in texts]

    assert restored("restore") == [NAMES[::2], NAMES[1::2]]
    assert restored("resume") == [["1.png"], ["2.png"]]

    # Everything once more in this process alone.
    write_image("set/4.png", Image(np.random.default_rng(0).random((9, 9, 3), np.float32)), True)
    assert restore(model, "set", "-o", "alone") == 0
    for name in NAMES[:4]:
        assert Path("out", name).read_bytes() == Path("alone", name).read_bytes()
        assert Path("again", name).read_bytes() == Path("alone", name).read_bytes()
    assert not Path("again/4.png").exists()
    assert done.stderr.count("failed, see above") == 1
    Path("set/4.png").unlink()
    arguments = ["--data", "set", "--model", model, "--device", "cpu", "--json", "alone.json"]
    assert main(["evaluate", *arguments]) == 0
    both, alone = (json.loads(Path(f"{name}.json").read_text()) for name in ("both", "alone"))
    assert (both["processes"], alone["processes"]) == (2, 1)
    assert [image["name"] for image in both["images"]] == NAMES
    assert both["images"][:4] == alone["images"]
    assert Path("evaluate-1.log").read_text() == ""
    assert Path("evaluate-0.log").read_text().splitlines()[-1].startswith("mean")
