"""How each task makes its inputs."""

from __future__ import annotations

import pickle
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from swinir_core.blind_degradation import degrade_blindly
from swinir_core.degradation import bicubic_resize
from swinir_core.training.settings import DegradationSettings, TaskSettings
from swinir_core.training.tasks import Task, build_task

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def task(name: str, scale: int = 1, gray: bool = False, **degradation) -> Task:
    return build_task(TaskSettings(name, scale, gray), DegradationSettings(**degradation))


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = BytesIO()
    squeezed = image[..., 0] if image.shape[2] == 1 else image
    Image.fromarray(squeezed).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


PROPERTIES = {
    # task: channels, scale, border of the scores, on Y
    ("classical_sr", 4, False): (3, 4, 4, True),
    ("lightweight_sr", 2, True): (1, 2, 2, False),
    ("real_sr", 4, False): (3, 4, 4, True),
}


@pytest.mark.parametrize("settings", PROPERTIES)
def test_scores_of_tasks_that_enlarge(settings: tuple[str, int, bool]) -> None:
    made = task(*settings)
    assert (made.channels, made.scale, made.border, made.y_channel) == PROPERTIES[settings]


def test_scores_of_tasks_that_do_not() -> None:
    for color, channels in (("gray", 1), ("color", 3)):
        for made in (task(f"{color}_denoise", sigma=(9, 9)), task(f"{color}_jpeg", quality=(9, 9))):
            assert (made.channels, made.scale, made.border) == (channels, 1, 0)
            assert not made.y_channel


@pytest.mark.parametrize("channels", [1, 3])
def test_validation_noise_is_that_of_the_paper(channels: int) -> None:
    made = task("color_denoise", sigma=(15, 50), validate_at=25)
    image = IMAGE[..., :channels]
    np.random.seed(0)  # noqa: NPY002 - the paper's generator
    expected = image / 255 + np.random.normal(0, 25 / 255, image.shape)  # noqa: NPY002
    for _ in range(2):
        low = made.degrade_fixed(image)
        assert low.dtype == np.float32
        np.testing.assert_allclose(low, expected, atol=1e-6)
    assert low.min() < 0 or low.max() > 1  # not clipped


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
    made = task("color_jpeg", quality=(10, 40), validate_at=20)
    np.testing.assert_array_equal(made.degrade_fixed(image) * 255, as_jpeg(image, 20))

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
    made = task("lightweight_sr", 2)
    np.testing.assert_array_equal(
        (made.degrade_fixed(IMAGE) * 255).round(), bicubic_resize(IMAGE, 1 / 2)
    )
    made = task("real_sr", 4)
    low = made.degrade(IMAGE, np.random.default_rng(5))
    wanted = degrade_blindly(IMAGE.astype(np.float32) / 255, 4, np.random.default_rng(5))
    np.testing.assert_array_equal(low, wanted)
    np.testing.assert_array_equal(made.degrade_fixed(IMAGE), made.degrade_fixed(IMAGE))


def test_tasks_can_be_sent_to_other_processes() -> None:
    for made in (
        task("real_sr", 4),
        task("color_denoise", sigma=(1, 2)),
        task("gray_jpeg", quality=(1, 2)),
    ):
        again = pickle.loads(pickle.dumps(made))
        np.testing.assert_array_equal(again.degrade_fixed(IMAGE), made.degrade_fixed(IMAGE))
