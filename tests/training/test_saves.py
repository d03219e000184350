"""Saves of a run, to go on from after a stop or a failure, and its words where it cannot."""

from __future__ import annotations

import errno
import itertools
import math
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swinir_core import files
from swinir_core.checkpoints.checkpoint import read_checkpoint
from swinir_core.cli.main import main
from swinir_core.images import metrics
from swinir_core.network.config import SwinIRConfig
from swinir_core.training.data import Patches
from swinir_core.training.report import read_rows
from swinir_core.training.saves import SaveError, read_state
from swinir_core.training.start import start_folder
from swinir_core.training.trainer import Trainer
from tests.training.runs import GAN, JPEG, SR, tiny_config, tiny_trainer, write_config

DROP = {"schedule": {"drop_path": 0.3}}
MUON = {"schedule": {"optimizer": "muon", "clip_norm": 0.5}, "data": {"parts": 2}}


def resumed(config, seed: int = 9) -> Trainer:
    """A trainer that begins with other weights and takes over those of the saved state."""
    trainer = tiny_trainer(config, seed)
    optimizer = config.schedule.optimizer
    trainer.resume(read_state(config.run.out, trainer.model.config, optimizer))
    return trainer


def same_weights(ours: torch.nn.Module, theirs: torch.nn.Module) -> bool:
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def stop_at(trainer: Trainer, step: int, number: signal.Signals) -> None:
    """Send this process a signal while the batch of ``step`` is made."""

    class Signalling(Patches):
        def __getitem__(self, index: int) -> tuple[Tensor, ...]:
            if index == step * self.batch:
                signal.raise_signal(number)
            return super().__getitem__(index)

    trainer.patches.__class__ = Signalling


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("change", [DROP, SR, GAN, MUON], ids=["drop_path", "sr", "gan", "muon"])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    folder: Path, number: signal.Signals, change: dict[str, Any]
) -> None:
    whole = tiny_trainer(tiny_config(folder, change, {"run": {"out": "whole"}}))
    assert whole.run()

    config = tiny_config(folder, change, {"run": {"out": "parts"}})
    stopped = tiny_trainer(config)
    stop_at(stopped, 2, number)
    handler = signal.getsignal(number)
    assert not stopped.run()
    assert stopped.step == 3
    assert signal.getsignal(number) is handler

    continued = resumed(config)
    assert continued.step == 3
    assert continued.run()
    assert same_weights(continued.model, whole.model)
    assert same_weights(continued.average, whole.average)
    if whole.critic and continued.critic:
        assert same_weights(continued.critic.network, whole.critic.network)
    rows = read_rows(folder / "parts" / "log.csv", 6)
    assert [row["step"] for row in rows] == [3, 6]


KILLED = """
import os, signal, sys
import torch
from swinir_core.cli.main import main
from swinir_core.training import data
torch.set_num_threads(1)
get = data.Patches.__getitem__
def killing(self, number):
    if number == 5 * self.batch + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return get(self, number)
data.Patches.__getitem__ = killing
main(["train", sys.argv[1]])
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
def test_a_killed_run_resumes_to_the_same_weights(folder: Path) -> None:
    changes = (DROP, {"run": {"log_every": 2, "save_minutes": 0}, "data": {"validate": "others"}})
    changes += ({"schedule": {"steps": 8}},)
    assert main(["train", str(write_config(folder, *changes, {"run": {"out": "whole"}}))]) == 0

    path = write_config(folder, *changes)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert torch.load(folder / "run" / "state.pt")["step"] == 5
    assert main(["train", str(path), "--resume"]) == 0

    for name in ("last.safetensors", "best.safetensors"):
        whole, parts = (read_checkpoint(folder / run / name) for run in ("whole", "run"))
        assert whole.metadata == parts.metadata
        assert all(torch.equal(whole.state_dict[k], parts.state_dict[k]) for k in whole.state_dict)
    tables = (read_rows(folder / run / "log.csv", 8) for run in ("whole", "run"))
    for whole, part in zip(*tables, strict=True):
        assert {**whole, "seconds": 0} == {**part, "seconds": 0}


def test_the_average_is_what_is_written(folder: Path) -> None:
    config = tiny_config(folder, JPEG)
    trainer = tiny_trainer(config)
    trainer.run()
    checkpoint = read_checkpoint(config.run.out / "last.safetensors")
    assert checkpoint.config == trainer.model.config
    assert checkpoint.config.task == "color_jpeg"
    assert checkpoint.metadata["trained_steps"] == "6"
    average = trainer.average.state_dict()
    assert checkpoint.state_dict.keys() == average.keys()
    assert all(torch.equal(checkpoint.state_dict[name], average[name]) for name in average)
    assert not same_weights(trainer.average, trainer.model)


def test_the_best_is_kept_apart_from_the_last(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(folder, {"data": {"validate": "others"}, "run": {"validate_every": 2}})
    trainer = tiny_trainer(config)
    scores = iter([(20.0, 0.5), (22.0, 0.6), (21.0, 0.9)])
    monkeypatch.setattr(trainer, "_scores", lambda: next(scores))
    trainer.run()
    best, last = (read_checkpoint(config.run.out / f"{n}.safetensors") for n in ("best", "last"))
    assert best.metadata == {
        "trained_steps": "4",
        "seed": "0",
        "validation": "PSNR 22.00 dB, SSIM 0.6000",
    }
    assert last.metadata["trained_steps"] == "6"
    assert resumed(config).best == 22


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_save(folder: Path) -> None:
    config = tiny_config(folder, {"schedule": {"steps": 2}})
    tiny_trainer(config).run()
    trainer = resumed(tiny_config(folder, {"schedule": {"steps": 4}}))
    trainer.model.state_dict()["conv_first.bias"].fill_(math.nan)
    with pytest.raises(
        FloatingPointError, match=r"at step 3, .*; resume with a learning_rate below"
    ):
        trainer.run()
    assert read_checkpoint(config.run.out / "last.safetensors").metadata["trained_steps"] == "2"


def test_a_run_that_fails_before_its_first_save_can_be_started_again(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(folder, {"schedule": {"learning_rate": 1e30}})
    assert main(["train", str(path)]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "not a number" in error
    assert "start again with a learning_rate below 1e+30, or with a clip_norm" in error
    assert not (folder / "run" / "state.pt").exists()
    assert main(["train", str(write_config(folder))]) == 0


@pytest.mark.parametrize("name", ["log", "curves", "step_00000006", "best", "last", "state"])
def test_a_full_disk_loses_nothing(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ({"data": {"validate": "others"}}, {"run": {"validate_every": 3, "log_every": 2}})
    whole = tiny_trainer(tiny_config(folder, *changes, {"run": {"out": "whole"}}))
    whole.run()

    config = tiny_config(folder, *changes)
    trainer = tiny_trainer(config)
    stop_at(trainer, 3, signal.SIGTERM)
    trainer.run()
    saved = {path: path.read_bytes() for path in config.run.out.glob("*.*")}
    continued = resumed(config)
    continued.best = -math.inf

    def full(target: Path, _: Path) -> None:
        if target.name.startswith(name):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_copy_permissions", full)
    with pytest.raises(
        SaveError, match=rf"{name}\..* cannot be written: No space left .* --resume\."
    ):
        continued.run()
    monkeypatch.undo()

    assert not list(config.run.out.rglob("*.part"))
    for path in saved:
        assert (path.read_bytes() == saved[path]) or path.stem != name
    read_checkpoint(config.run.out / "last.safetensors")
    read_checkpoint(config.run.out / "best.safetensors")
    again = resumed(config)
    assert again.run()
    assert same_weights(again.average, whole.average)


@pytest.mark.parametrize("perfect", [1, 2])
def test_images_restored_without_any_error(
    folder: Path, perfect: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "photographs" / "0.png").rename(folder / "others" / "0.png")
    scores = itertools.cycle([math.inf, math.inf if perfect == 2 else 30.0])
    monkeypatch.setattr(metrics, "psnr", lambda *_, **__: next(scores))
    config = tiny_config(folder, {"data": {"validate": "others"}})
    assert tiny_trainer(config).run()
    assert {path.name for path in config.run.out.iterdir()} > {"best.safetensors", "curves.png"}
    again = resumed(config)
    assert again.best == again.rows[-1]["psnr"] == (65 if perfect == 1 else 100)


def test_all_is_saved_before_pictures_are_drawn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    config = tiny_config(folder, {"data": {"validate": "others"}})
    monkeypatch.setattr("swinir_core.training.trainer.write_curves", fail)
    with pytest.raises(ZeroDivisionError):
        tiny_trainer(config).run()
    again = resumed(config)
    assert again.step == again.rows[-1]["step"] == 6
    assert again.best == pytest.approx(again.rows[-1]["psnr"], abs=1e-4)


def test_a_folder_that_cannot_be_made_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "file").touch()
    path = write_config(folder, {"run": {"out": "file/run"}})
    assert main(["train", str(path)]) == 1
    error = capsys.readouterr().err
    assert re.search(r"settings\.toml cannot be written: \S*file is not a folder\.\n$", error)


def test_a_state_that_could_not_be_saved_is_said_before_training(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(folder)
    assert main(["train", str(path)]) == 0
    saved = (folder / "run" / "log.csv").read_bytes()
    monkeypatch.setattr(os, "access", lambda path, _: path.name != "state.pt")
    assert main(["train", str(path), "--resume"]) == 1
    assert capsys.readouterr().err.endswith("state.pt cannot be written: it is read-only.\n")
    assert (folder / "run" / "log.csv").read_bytes() == saved


def test_a_run_removes_what_a_killed_one_left(folder: Path) -> None:
    config = tiny_config(folder)
    for name in ("run", "run/samples"):
        left = folder / name / ".swinir-0123456789abcdef.part"
        left.parent.mkdir()
        left.touch()
        os.utime(left, (0, 0))
    start_folder(config)
    assert not list(folder.rglob("*.part"))


def test_a_folder_that_is_moved_away_while_training_is_said(folder: Path) -> None:
    config = tiny_config(folder, {"run": {"log_every": 3}})
    trainer = tiny_trainer(config)
    config.run.out.rename(folder / "elsewhere")
    with pytest.raises(SaveError, match=r"run is gone: .* put it back and run again"):
        trainer.run()
    assert not config.run.out.exists()


NO_STATE = {
    "empty": b"",
    "text": b"hello, world",
    "a pickle of no weights": pickle.dumps(Path(), protocol=2),
    "a foreign dict": {"epoch": 3},
    "no dict": [1, 2],
}


@pytest.mark.parametrize("name", NO_STATE)
def test_what_is_no_state_is_said(tmp_path: Path, name: str) -> None:
    path, contents = tmp_path / "state.pt", NO_STATE[name]
    path.write_bytes(contents) if isinstance(contents, bytes) else torch.save(contents, path)
    config = SwinIRConfig(1, 3, 8, (2,), (2,), 4, 2.0, "none")
    with pytest.raises(ValueError, match=r"state\.pt is damaged or not the state of a run"):
        read_state(tmp_path, config, "adam")


def test_the_state_of_another_network_is_refused(folder: Path) -> None:
    tiny_trainer(tiny_config(folder, {"schedule": {"steps": 1}})).run()
    with pytest.raises(ValueError, match="of another network, one with embed_dim=8"):
        resumed(tiny_config(folder, {"network": {"embed_dim": 12}}))


@pytest.mark.parametrize(("was", "now"), [("adam", "muon"), ("muon", "adam")])
def test_the_state_of_another_optimizer_is_refused(folder: Path, was: str, now: str) -> None:
    tiny_trainer(tiny_config(folder, {"schedule": {"optimizer": was, "steps": 1}})).run()
    with pytest.raises(
        ValueError, match=f'state.pt holds a run with optimizer = "{was}", not "{now}"; resume'
    ):
        resumed(tiny_config(folder, {"schedule": {"optimizer": now}}))


def test_a_state_that_names_no_optimizer_is_of_adam(folder: Path) -> None:
    config = tiny_config(folder)
    tiny_trainer(config).run()
    path = config.run.out / "state.pt"
    state = torch.load(path)
    state["settings"] = state["settings"].replace('optimizer = "adam"\n', "")
    torch.save(state, path)
    assert resumed(config).step == 6
