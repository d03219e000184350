"""Distillation: the teacher's pictures are made once, kept whole, and are what is learned."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

from swinir_core.checkpoints.checkpoint import Checkpoint, write_checkpoint
from swinir_core.errors import Cancelled
from swinir_core.images.levels import to_floats, to_integers
from swinir_core.network.config import SwinIRConfig
from swinir_core.network.initialisation import init_weights
from swinir_core.network.swinir import SwinIR
from swinir_core.restoration.restorer import Restorer
from swinir_core.training.data import Photos, Plain
from swinir_core.training.runtime import make_accelerator
from swinir_core.training.settings.settings import TrainConfig
from swinir_core.training.start import choose_images, make_pairs
from swinir_core.training.tasks import build_task
from swinir_core.training.teacher import Teacher
from swinir_core.training.teacher_pictures import TaughtPatches, TeacherPictures
from tests.training.runs import JPEG, SR, tiny_config

TEACHER = {"teacher": {"file": "teacher.safetensors", "crop": 12, "crops": 2}}
NEVER: Callable[[], bool] = lambda: False  # noqa: E731


def swinir(scale: int = 2, in_channels: int = 3) -> SwinIR:
    config = SwinIRConfig(
        scale=scale,
        in_channels=in_channels,
        embed_dim=8,
        depths=(2,),
        num_heads=(2,),
        window_size=4,
        mlp_ratio=2.0,
        upsampler="pixelshuffledirect" if scale > 1 else "none",
    )
    model = SwinIR(config).eval()
    init_weights(model, 0)
    return model


def save_swinir(path: Path, **shape: Any) -> SwinIR:
    model = swinir(**shape)
    write_checkpoint(path, Checkpoint(model.config, model.state_dict()))
    return model


def save_compact(path: Path, weight: float = 1.0, num_out_ch: int = 3) -> None:
    torch.manual_seed(0)
    model = SRVGGNetCompact(
        num_in_ch=3, num_out_ch=num_out_ch, num_feat=8, num_conv=2, upscale=2, act_type="prelu"
    )
    torch.save({"params": {k: v * weight for k, v in model.state_dict().items()}}, path)


@pytest.fixture
def taught(folder: Path) -> Path:
    """The folder with a teacher of scale 2."""
    save_swinir(folder / "teacher.safetensors")
    return folder


def pictures_of(config: TrainConfig) -> TeacherPictures:
    task = build_task(config.task, config.degradation)
    photos = Photos.read(choose_images(config, task)[1], task, config.teacher.crop, 0, quiet=True)
    assert config.teacher.file
    return TeacherPictures(
        Teacher(config.teacher.file, task, torch.device("cpu"), "no"), config, photos
    )


def make(pictures: TeacherPictures, cancelled: Callable[[], bool] = NEVER) -> int:
    return len(list(pictures.make(pictures.missing(), cancelled)))


def contents(pictures: TeacherPictures) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in pictures.folder.iterdir()}


@pytest.mark.parametrize("kind", ["SwinIR", "Compact"])
def test_the_picture_is_the_teachers(taught: Path, kind: str) -> None:
    if kind == "Compact":
        save_compact(taught / "teacher.safetensors")  # A pickle, whatever its name says.
        (taught / "teacher.safetensors").rename(taught / "teacher.pth")
    file = "teacher.pth" if kind == "Compact" else "teacher.safetensors"
    pictures = pictures_of(tiny_config(taught, SR, TEACHER, {"teacher": {"file": file}}))
    assert make(pictures) == 6
    model: Any = pictures.teacher._restorer.model
    for crop in pictures.crops:
        arrays = load_file(crop.path)
        wanted = Restorer(model, "cpu", torch.float32)(torch.from_numpy(arrays["low"])[None])[0]
        np.testing.assert_array_equal(arrays["teacher"], to_integers(wanted.numpy()))
        assert arrays["low"].shape == (12, 12, 3)
        assert arrays["photograph"].shape == arrays["teacher"].shape == (24, 24, 3)


def test_pictures_are_made_once_and_added_to(taught: Path) -> None:
    config = tiny_config(taught, SR, TEACHER)
    pictures = pictures_of(config)
    make(pictures)
    before = contents(pictures)
    assert make(pictures_of(config)) == 0
    more = pictures_of(replace(config, teacher=replace(config.teacher, crops=3, photograph=0.5)))
    assert (more.folder, make(more)) == (pictures.folder, 3)
    assert before.items() <= contents(more).items()


@pytest.mark.parametrize(
    "change",
    [
        {"teacher": {"crop": 8}},
        {"teacher": {"untouched": 0.5}},
        {"teacher": {"keep_means": True}},
        {"task": {"name": "classical_sr"}},
    ],
    ids=["crop", "untouched", "keep_means", "task"],
)
def test_another_damage_has_pictures_of_its_own(taught: Path, change: Any) -> None:
    make(pictures_of(tiny_config(taught, SR, TEACHER)))
    assert len(pictures_of(tiny_config(taught, SR, TEACHER, change)).missing()) == 6


def test_another_teacher_has_pictures_of_its_own(taught: Path) -> None:
    config = tiny_config(taught, SR, TEACHER)
    make(pictures_of(config))
    model = swinir()
    init_weights(model, 1)
    write_checkpoint(taught / "teacher.safetensors", Checkpoint(model.config, model.state_dict()))
    assert len(pictures_of(config).missing()) == 6


def test_a_stopped_run_keeps_whole_pictures_and_goes_on(taught: Path) -> None:
    config = tiny_config(taught, SR, TEACHER)
    pictures = pictures_of(config)
    made = pictures.make(pictures.missing(), NEVER)
    next(made)
    next(made)
    del made
    with pytest.raises(Cancelled):
        make(pictures, lambda: True)
    assert len(pictures.missing()) == 4
    assert make(pictures) == 4
    resumed = contents(pictures)
    shutil.rmtree(pictures.folder)
    make(pictures)
    assert contents(pictures) == resumed


def test_a_damaged_picture_is_made_again(taught: Path) -> None:
    pictures = pictures_of(tiny_config(taught, SR, TEACHER))
    make(pictures)
    path = pictures.crops[3].path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert [crop.path for crop in pictures.missing()] == [path]
    make(pictures)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("photograph", [0.0, 0.25, 1.0])
def test_teacher_and_photograph_are_mixed(taught: Path, photograph: float) -> None:
    changes = {"teacher": {"photograph": photograph, "crop": 8, "crops": 1}}
    pictures = pictures_of(tiny_config(taught, SR, TEACHER, changes))
    make(pictures)
    low, high = TaughtPatches(pictures, 8, 2, 0, Plain())[0]
    for crop in pictures.crops:
        arrays = load_file(crop.path)
        truth, picture = to_floats(arrays["photograph"]), to_floats(arrays["teacher"])
        wanted = photograph * truth + (1 - photograph) * picture
        for way in range(8):
            # The patch is a whole crop, in one of eight ways.
            turned = [np.rot90(a, way % 4) for a in (arrays["low"], wanted)]
            turned = [np.flip(a, 0) for a in turned] if way > 3 else turned
            if np.array_equal(turned[0].transpose(2, 0, 1), low.numpy()):
                np.testing.assert_allclose(turned[1].transpose(2, 0, 1), high.numpy(), atol=1e-6)
                return
    raise AssertionError("the patch is no crop")


def test_untouched_crops_are_pieces_of_the_photographs(taught: Path) -> None:
    config = tiny_config(taught, SR, TEACHER, {"teacher": {"untouched": 1.0, "crops": 4}})
    pictures = pictures_of(config)
    make(pictures)
    for crop in pictures.crops:
        arrays = load_file(crop.path)
        photograph = to_floats(pictures.photos.rows(crop.photo, 0, 36))
        windows = np.lib.stride_tricks.sliding_window_view(photograph, (12, 12, 3))
        assert (windows[:, :, 0] == arrays["low"]).all((-1, -2, -3)).any()
        assert set(arrays) == {"low", "teacher"}


def test_means_are_kept(taught: Path) -> None:
    pictures = pictures_of(tiny_config(taught, SR, TEACHER, {"teacher": {"keep_means": True}}))
    make(pictures)
    for crop in pictures.crops:
        arrays = load_file(crop.path)
        shift = to_floats(arrays["teacher"]).mean((0, 1)) - arrays["low"].mean((0, 1))
        assert np.abs(shift).max() < 1 / 255


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            [SR, TEACHER, {"task": {"scale": 4}, "teacher": {"crop": 8}}],
            "has scale 2 and 3 channels, but the ta",
        ),
        ([SR, TEACHER, {"task": {"gray": True}}], "has scale 2 and 3 channels, but the task has"),
        ([JPEG, TEACHER], "has scale 2 and 3 channels, but the task has scale 1 and 3; name anot"),
        ([SR, TEACHER, {"teacher": {"crop": 4}}], "must be at least as large as patch = 8"),
        ([SR, {"teacher": {"crops": 9}}], "crops = 9: needs a teacher; name one by file"),
        ([SR, TEACHER, {"teacher": {"photograph": 1.5}}], "photograph = 1.5: must be at most 1"),
        ([SR, TEACHER, {"teacher": {"at_most_gib": 1e-6}}], "6 pictures of the teacher take 2"),
        ([SR, TEACHER, {"teacher": {"crop": 20}}], "smaller than a patch of 40x40 pixels"),
        ([SR, TEACHER, {"teacher": {"file": "none.pth"}}], "none.pth: neither a file nor a bun"),
        ([SR, TEACHER, {"teacher": {"file": "other.pth"}}], "the teacher other.pth is neither a"),
        ([SR, TEACHER, {"teacher": {"file": "rgba.pth"}}], "rgba.pth cannot be used: this Real"),
        ([SR, TEACHER, {"teacher": {"file": "nan.pth"}}], "nan.pth makes pixels that are not num"),
        ([SR, {"data": {"flat": 0.6, "gray": 0.6}}], "together with flat = 0.6 it is more than 1"),
        ([SR, {"task": {"gray": True}, "data": {"gray": 0.5}}], "the network takes gray images"),
    ],
)
def test_what_cannot_be_is_said(taught: Path, changes: list[Any], sentence: str) -> None:
    torch.save({"params": {"weight": torch.zeros(2)}}, taught / "other.pth")
    save_compact(taught / "nan.pth", float("nan"))
    save_compact(taught / "rgba.pth", num_out_ch=4)

    def run() -> None:
        pictures = pictures_of(tiny_config(taught, *changes))
        pictures.check_room(pictures.missing())
        make(pictures)

    with pytest.raises(ValueError, match=sentence):
        run()


def test_a_full_disk_is_said(taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = pictures_of(tiny_config(taught, SR, TEACHER))
    usage = shutil.disk_usage(taught)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match="or name another folder by pictures under"):
        pictures.check_room(pictures.missing())


@pytest.mark.parametrize("taught_run", [True, False])
def test_shares_of_flat_and_gray_patches(taught: Path, taught_run: bool) -> None:
    changes = {"data": {"batch": 50, "flat": 0.3, "gray": 0.3}}
    config = tiny_config(taught, SR, changes, TEACHER if taught_run else {})
    task = build_task(config.task, config.degradation)
    paths = choose_images(config, task)[1]
    pairs = make_pairs(config, task, paths, make_accelerator("cpu", "float32"))
    assert pairs is not None
    flat = gray = 0
    for low, high in (pairs[number] for number in range(400)):
        assert low.shape == (3, 8, 8)
        assert high.shape == (3, 16, 16)
        is_flat = bool((low == low[:, :1, :1]).all())
        assert not is_flat or torch.equal(low[:, 0, 0], high[:, 0, 0])
        assert not is_flat or bool((high == high[:, :1, :1]).all())
        is_gray = bool((low == low[:1]).all())
        assert not is_gray or bool((high == high[:1]).all())
        flat += is_flat
        gray += is_gray and not is_flat
    assert 90 < flat < 150
    assert 90 < gray < 150
