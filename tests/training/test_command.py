"""``swinir train`` as a user meets it: folders, messages, resumption, what a run starts from."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swinir_core import load_model
from swinir_core.checkpoints.checkpoint import read_checkpoint, write_checkpoint
from swinir_core.cli.main import main
from swinir_core.training.report import read_rows
from swinir_core.training.settings.files import read_config
from swinir_core.training.teacher import Teacher
from tests.training.runs import GAN, SR, save_photograph, write_config


def train(folder: Path, *arguments: str) -> int:
    return main(["train", str(folder / "config.toml"), *arguments])


@pytest.fixture(autouse=True)
def _messages(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def test_a_run_leaves_everything_in_its_folder(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_config(folder, {"data": {"validate": "others"}, "run": {"log_every": 2}})
    assert train(folder) == 0
    run = folder / "run"
    assert sorted(path.name for path in run.iterdir()) == [
        *("best.safetensors", "curves.png", "last.safetensors", "log.csv"),
        *("samples", "settings.toml", "state.pt"),
    ]
    assert [path.name for path in (run / "samples").iterdir()] == ["step_00000006.png"]
    assert Image.open(run / "curves.png").size == (800, 900)
    assert [row["step"] for row in read_rows(run / "log.csv", 6)] == [2, 4, 6]
    assert read_config(run / "settings.toml") == read_config(folder / "config.toml")
    assert load_model(run / "best.safetensors").config.task == "color_denoise"
    for sentence in (
        "1 validation image; untouched: PSNR 20.",
        "3 training images",
        "1 process on cpu, precision no; step 0 of 6",
        "finished at step 6; ",
    ):
        assert sentence in caplog.text


def test_options_replace_what_the_file_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config(folder, {"data": {"train": "nowhere"}, "run": {"device": "auto"}})
    monkeypatch.chdir(folder)
    options = ["--data", "photographs", "others", "--out", "elsewhere", "--steps", "2"]
    assert train(folder, *options, "--validate", "others", "--device", "cpu") == 0
    assert read_checkpoint("elsewhere/last.safetensors").metadata["trained_steps"] == "2"
    assert not (folder / "run").exists()


def test_a_run_is_continued_only_when_asked(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_config(folder)
    assert train(folder, "--resume") == 1
    assert "run holds no saved run to resume; check the folder" in capsys.readouterr().err
    assert train(folder, "--steps", "2") == 0
    assert train(folder) == 1
    assert "run already holds a run; add --resume, or choose" in capsys.readouterr().err
    assert train(folder, "--resume") == 0
    assert "resumed with other settings: steps = 6" in caplog.text
    caplog.clear()
    assert train(folder, "--resume") == 0
    assert "resumed with other settings" not in caplog.text
    assert "finished at step 6" in caplog.text
    assert [row["step"] for row in read_rows(folder / "run" / "log.csv", 9)] == [2, 6, 6]


def test_bad_images_are_skipped_and_counted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = (folder / "photographs" / "0.png").read_bytes()
    (folder / "photographs" / "broken.png").write_bytes(whole[: len(whole) // 2])
    (folder / "photographs" / "empty.jpg").touch()
    save_photograph(folder / "photographs" / "tiny.png", 7, 30)
    write_config(folder, {"data": {"validate": "others"}})
    assert train(folder) == 0
    assert f"skipped 2 unreadable: {folder / 'photographs' / 'broken.png'}, " in caplog.text
    assert "skipped 1 smaller than a patch: " in caplog.text
    assert "3 training images" in caplog.text


NO_IMAGES = {
    # folder to train on: what is said
    "empty": "empty: no PNG, JPEG, WebP or TIFF file in there",
    "none": "none is not a folder; name one that holds images",
    "small": "none of the 2 images can be trained on: 1 unreadable, 1 smaller than a patch of 8x8",
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_folders_without_usable_images(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "empty").mkdir()
    save_photograph(folder / "small" / "1.png", 7, 7)
    (folder / "small" / "2.png").touch()
    write_config(folder, {"data": {"train": name}})
    assert train(folder) == 1
    assert NO_IMAGES[name] in capsys.readouterr().err
    assert not (folder / "run").exists()


def test_without_a_folder_to_validate_on_some_images_are_kept_apart(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(3, 40):
        save_photograph(folder / "photographs" / f"{index:02}.png", 16, 16, seed=index)
    write_config(folder)
    assert train(folder, "--steps", "1") == 0
    assert "kept apart for validation, as no folder is given: 0.png, 20.png" in caplog.text
    assert "38 training images" in caplog.text
    assert (folder / "run" / "best.safetensors").exists()


def test_few_images_are_all_trained_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_config(folder)
    assert train(folder, "--steps", "1") == 0
    assert "kept apart for validation, as no folder is given: no image" in caplog.text
    assert "3 training images" in caplog.text
    assert "psnr" not in read_rows(folder / "run" / "log.csv", 1)[0]


def test_neither_validation_images_nor_samples_are_trained_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "others").rename(folder / "photographs" / "validation")
    inside = {"run": {"out": "photographs/run"}, "data": {"validate": "photographs/validation"}}
    write_config(folder, inside)
    for more in ([], ["--resume"]):
        caplog.clear()
        assert train(folder, *more) == 0
        assert "3 training images" in caplog.text


@pytest.mark.skipif(os.name == "nt", reason="Windows takes no control characters in names")
def test_names_of_files_are_logged_in_one_line(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hostile = "\x1b[2J\n"
    for index in range(8):
        (folder / "photographs" / f"{index}{hostile}damaged.png").write_bytes(b"damaged")
    save_photograph(folder / "photographs" / f"{hostile}kept apart.png")
    write_config(folder)
    assert train(folder) == 0
    assert "skipped" in caplog.text
    assert all(record.message.isprintable() for record in caplog.records)


def test_hidden_files_are_neither_trained_nor_validated_on(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("photographs/._0.png", "others/._3.png", "others/.trash/4.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no image")
    write_config(folder, {"data": {"validate": "others"}})
    assert train(folder) == 0
    assert "1 validation image;" in caplog.text
    assert "skipped" not in caplog.text


def weights_of_another_run(folder: Path, *changes) -> dict[str, torch.Tensor]:
    write_config(folder, *changes, {"run": {"out": "before"}, "schedule": {"steps": 1}})
    assert train(folder) == 0
    return read_checkpoint(folder / "before" / "last.safetensors").state_dict


def test_fitting_weights_are_taken_over_and_the_rest_is_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = weights_of_another_run(folder, SR)
    write_config(folder, SR | {"task": {"name": "lightweight_sr", "scale": 4}},
                 {"schedule": {"learning_rate": 1e-12, "steps": 1}})  # fmt: skip
    assert train(folder, "--start-from", str(folder / "before" / "last.safetensors")) == 0
    assert (
        "last.safetensors; begun anew: upsample.0.bias, upsample.0.weight; not used: "
        in caplog.text
    )
    after = read_checkpoint(folder / "run" / "last.safetensors").state_dict
    same = [name for name in before if before[name].shape == after[name].shape]
    assert len(same) == len(before) - 2
    for name in same:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-9)


def test_weights_move_between_tasks_and_precisions(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights_of_another_run(folder, SR)
    path = folder / "before" / "last.safetensors"
    checkpoint = read_checkpoint(path)
    write_checkpoint(folder / "half.safetensors", checkpoint, torch.float16)
    write_config(
        folder, {"task": {"name": "gray_denoise"}, "run": {"start_from": "half.safetensors"}}
    )
    assert train(folder) == 0
    assert (
        "begun anew: conv_first.weight, conv_last.bias, conv_last.weight; "
        "not used: conv_first.weight, upsample.0.bias, upsample.0.weight"
    ) in caplog.text
    assert load_model(folder / "run" / "last.safetensors").config.task == "gray_denoise"


def test_the_network_may_be_that_of_the_checkpoint(folder: Path) -> None:
    weights_of_another_run(folder, {"network": {"embed_dim": 12, "mlp_ratio": 3.0}})
    write_config(folder, {"network": None, "run": {"start_from": "before/last.safetensors"}})
    assert train(folder, "--steps", "2") == 0
    assert train(folder, "--resume") == 0
    config = read_checkpoint(folder / "run" / "last.safetensors").config
    assert (config.embed_dim, config.mlp_ratio) == (12, 3.0)


def test_a_start_that_cannot_be_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_config(folder)
    assert train(folder, "--start-from", "no_such_model") == 1
    assert "no_such_model: neither a file nor a bundled model" in capsys.readouterr().err
    weights_of_another_run(folder, {"network": {"embed_dim": 12, "num_heads": [3]}})
    checkpoint = read_checkpoint(folder / "before" / "last.safetensors")
    write_config(folder, {"network": {"embed_dim": 20, "num_heads": [5]}})
    start = str(folder / "before" / "last.safetensors")
    assert train(folder, "--start-from", start) == 0  # the last bias fits
    assert len(checkpoint.state_dict) > 1


def test_a_bundled_model_starts_a_run(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    size = {"embed_dim": 48, "depths": [4, 4, 4], "num_heads": [3, 3, 3], "window_size": 8}
    write_config(folder, SR, {"network": size, "run": {"start_from": "upscale_x2_light"}})
    assert train(folder, "--steps", "1") == 0
    assert "172 of 172 weights are those of upscale_x2_light; begun anew: none" in caplog.text


def test_missing_vgg_weights_are_said_before_images_are_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(folder, {"loss": {"perceptual_weight": 1.0, "vgg19": "vgg.pth"}})
    assert train(folder, "--data", str(folder / "none")) == 1
    assert "vgg.pth" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["accelerate", "matplotlib", "pydantic"])
def test_without_its_extra_the_command_says_what_to_install(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = ("swinir_core.training.", "swinir_core.cli.train")
    for module in [module for module in sys.modules if module.startswith(imported)]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    write_config(folder)
    assert train(folder) == 2
    wanted = f'training needs {name}; install with pip install "swinir-restore[train]".'
    assert wanted in capsys.readouterr().err


def test_running_out_of_device_memory_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("swinir_core.training.trainer.Trainer._take_step", fail)
    write_config(folder)
    assert train(folder) == 1
    assert "out of memory; raise parts under [data], then lower" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("taught", [False, True], ids=["photographs", "teacher, parts, muon"])
def test_two_processes_train_as_one(folder: Path, taught: bool) -> None:
    """With a teacher, the pictures of each run are made by its first process."""
    more: Any = {"data": {"validate": "photographs", "batch": 4}, "run": {"log_every": 1}}
    more |= {"data": more["data"] | {"train": ["others"]}, "schedule": {"clip_norm": 0.5}}
    if taught:
        more["data"]["parts"] = 2
        more["schedule"]["optimizer"] = "muon"
        more["teacher"] = {"file": "upscale_x2_light", "crop": 8, "crops": 2}
    path = write_config(folder, SR, GAN, more)
    assert train(folder, "--out", str(folder / "one")) == 0
    if taught:
        shutil.rmtree(folder / "teacher_pictures")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node", "2", "-m", "swinir_core", "train", str(path)]
    two = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert two.returncode == 0, two.stderr
    assert "2 processes on cpu" in two.stderr
    assert two.stderr.count("finished at step 6") == 1
    tables = [read_rows(folder / name / "log.csv", 6) for name in ("one", "run")]
    assert [len(rows) for rows in tables] == [6, 6]
    for one, two in zip(*tables, strict=True):
        for column in one.keys() - {"seconds"}:
            assert two[column] == pytest.approx(one[column], rel=1e-4, abs=2e-6), column
    ours, theirs = (read_checkpoint(folder / n / "last.safetensors") for n in ("one", "run"))
    for name, weight in ours.state_dict.items():
        np.testing.assert_allclose(weight, theirs.state_dict[name], atol=2e-5)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [(1, "multiple of the 3 processes"), (2, "multiple of the 3 processes times parts = 2")],
)
def test_a_batch_that_cannot_be_shared_is_refused(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    parts: int,
    sentence: str,
) -> None:
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 3)
    write_config(folder, {"data": {"parts": parts}})
    assert train(folder) == 2
    assert f"[data] batch = 2: must be a {sentence}." in capsys.readouterr().err


def test_the_teachers_pictures_serve_later_runs(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = {"crop": 12, "crops": 1}
    write_config(folder, SR, {"teacher": teacher})
    assert train(folder, "--teacher", "upscale_x2_light") == 0
    assert "3 of 3 pictures of upscale_x2_light.safetensors are to be made" in caplog.text
    caplog.clear()
    assert train(folder, "--teacher", "upscale_x2_light", "--out", str(folder / "next")) == 0
    assert "are to be made" not in caplog.text
    assert len(list((folder / "teacher_pictures").rglob("*.crop"))) == 3


def test_a_run_stopped_while_pictures_are_made_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_config(folder, SR, {"teacher": {"file": "upscale_x2_light", "crop": 12, "crops": 2}})
    call, calls = Teacher.__call__, []

    def stopping(self: Teacher, *arguments: Any) -> np.ndarray:
        calls.append(arguments)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return call(self, *arguments)

    monkeypatch.setattr(Teacher, "__call__", stopping)
    assert train(folder) == 130
    assert "stay, the same command goes on" in caplog.text
    assert len(list((folder / "teacher_pictures").rglob("*.crop"))) == 2
    assert train(folder) == 0
    assert len(calls) == 3 + 4
