"""Inputs of each task."""

from __future__ import annotations

import pickle
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from swinir_core.degradation.blind import degrade_blindly
from swinir_core.evaluation.protocol import Protocol
from swinir_core.images.resize import bicubic_resize
from swinir_core.training.settings.settings import DegradationSettings, TaskSettings
from swinir_core.training.tasks import Task, build_task

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def task(name: str, scale: int = 1, gray: bool = False, **degradation) -> Task:
    return build_task(TaskSettings(name, scale, gray), DegradationSettings(**degradation))


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = BytesIO()
    squeezed = image[..., 0] if image.shape[2] == 1 else image
    Image.fromarray(squeezed).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


PROTOCOLS = {
    "classical_sr": (task("classical_sr", 4), Protocol("sr", 4, 3)),
    "gray lightweight_sr": (task("lightweight_sr", 2, True), Protocol("sr", 2, 3)),
    "real_sr": (task("real_sr", 4), Protocol("real_sr", 4, 3)),
    "gray_denoise": (task("gray_denoise", sigma=(9, 9)), Protocol("denoise", 1, 1, sigma=9)),
    "color_jpeg": (task("color_jpeg", quality=(9, 10)), Protocol("jpeg", 1, 3, quality=10)),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_task_is_validated_by_the_protocol_of_the_paper(name: str) -> None:
    made, protocol = PROTOCOLS[name]
    assert made.protocol == protocol
    assert (made.channels, made.scale) == (1 if name.startswith("gray") else 3, protocol.scale)


def test_training_noise_is_of_the_range() -> None:
    made = task("color_denoise", sigma=(15, 50))
    random = np.random.default_rng(0)
    noise = [made.degrade(IMAGE, random) - IMAGE / 255.0 for _ in range(200)]
    deviations = np.std(noise, axis=(1, 2, 3)) * 255
    assert 14 < deviations.min() < 18
    assert 47 < deviations.max() < 52
    assert abs(np.mean(noise)) < 2e-3


def test_validation_level() -> None:
    assert DegradationSettings(sigma=(15, 50)).validation_level == 32.5
    assert DegradationSettings(quality=(10, 10)).validation_level == 10
    assert DegradationSettings(quality=(10, 40), validate_at=12).validation_level == 12


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg(channels: int) -> None:
    image = np.ascontiguousarray(IMAGE[..., :channels])
    made, found = task("color_jpeg", quality=(30, 30)), set()
    middle = slice(made.margin, -made.margin)
    expected = {
        as_jpeg(np.ascontiguousarray(image[top:, left:]), 30)[8 - top : -8, 8 - left : -8].tobytes()
        for top in range(8)
        for left in range(8)
    }
    random = np.random.default_rng(0)
    for _ in range(600):
        low = made.degrade(image, random)[middle, middle] * 255
        found.add(low.round().astype(np.uint8).tobytes())
    assert found == expected


def test_super_resolution_inputs() -> None:
    low = task("lightweight_sr", 2).degrade(IMAGE, np.random.default_rng(5))
    np.testing.assert_array_equal((low * 255).round(), bicubic_resize(IMAGE, 1 / 2))
    made = task("real_sr", 4)
    low = made.degrade(IMAGE, np.random.default_rng(5))
    wanted = degrade_blindly(IMAGE.astype(np.float32) / 255, 4, np.random.default_rng(5))
    np.testing.assert_array_equal(low, wanted)


def test_tasks_can_be_sent_to_other_processes() -> None:
    for made in (
        task("real_sr", 4),
        task("color_denoise", sigma=(1, 2)),
        task("gray_jpeg", quality=(1, 2)),
    ):
        again = pickle.loads(pickle.dumps(made))
        ours, theirs = (one.degrade(IMAGE, np.random.default_rng(0)) for one in (made, again))
        np.testing.assert_array_equal(ours, theirs)
