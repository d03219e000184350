"""What is told of pictures whose damage is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from skimage import data

from swinir_core.choices import SAMPLES
from swinir_core.degradation.noise_and_jpeg import add_gaussian_noise, jpeg_compress
from swinir_core.degradation.samples import read_sample
from swinir_core.images.color import to_channels
from swinir_core.images.levels import to_floats, to_integers
from swinir_core.images.looking import look
from swinir_core.images.resize import bicubic_resize

RANDOM = np.random.default_rng(0)
SIZE = (240, 320)
CLEAN = 4.5


def halved(name: str, channels: int = 3) -> np.ndarray:
    """A sample, uint8: half the size, where traces of its own history are gone."""
    return to_channels(to_integers(bicubic_resize(read_sample(name), 0.5)), channels)


def noisy(levels: np.ndarray, sigma: float) -> np.ndarray:
    return to_integers(add_gaussian_noise(to_floats(levels), sigma, RANDOM))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [5, 10, 25, 50])
@pytest.mark.parametrize("name", SAMPLES)
def test_sigma_within_a_fifth(name: str, sigma: int, channels: int) -> None:
    # The fur of the gray cat cannot be told from so little noise.
    bound = 0.35 if (name, sigma, channels) == ("cat", 5, 1) else 0.2
    found = look(noisy(halved(name, channels), sigma))
    assert found.sigma == pytest.approx(sigma, rel=bound)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [10, 30, 50, 70, 90])
@pytest.mark.parametrize("name", ["cat", "coffee"])
def test_jpeg_quality_wherever_the_picture_was_cut(name: str, quality: int, channels: int) -> None:
    picture = jpeg_compress(halved(name, channels), quality)
    top, left = RANDOM.integers(0, 8, 2)
    assert look(picture[top:, left:]).jpeg_quality == pytest.approx(quality, abs=1)


def text() -> np.ndarray:
    """A scanned page, whose paper is not quite white."""
    return np.minimum(data.page(), 245)


def flat() -> np.ndarray:
    return np.full((*SIZE, 3), 128, np.uint8)


def gradient() -> np.ndarray:
    return np.add.outer(np.linspace(0, 100, SIZE[0]), np.linspace(0, 155, SIZE[1]))[..., None]


def grain() -> np.ndarray:
    """Film grain: alike in the three colours."""
    return halved("coffee") + RANDOM.normal(0, 6, (*halved("coffee").shape[:2], 1))


def drawing() -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    centres = RANDOM.integers(0, 240, (9, 2))
    discs = sum((rows - y) ** 2 + (columns - x) ** 2 < 900 for y, x in centres)
    return np.stack([200 - 20 * discs, 90 + 15 * discs, 40 + 0 * discs], axis=-1)


def letterbox() -> np.ndarray:
    return np.pad(halved("coffee"), ((60, 60), (0, 0), (0, 0)))


SOUND: dict[str, Callable[[], np.ndarray]] = {
    **{name: lambda name=name: halved(name) for name in SAMPLES},
    **{f"gray {name}": lambda name=name: halved(name, 1) for name in SAMPLES},
    "scanned page": text,
    "one colour": flat,
    "black": lambda: flat() * 0,
    "gradient": gradient,
    "dithered gradient": lambda: gradient() + RANDOM.uniform(-0.5, 0.5, (*SIZE, 1)),
    "dark": lambda: halved("astronaut") * 0.08,
    "film grain": grain,
    "drawing": drawing,
    "black bars": letterbox,
    "black and white": lambda: data.horse()[..., None] * 255,
    "pattern of single pixels": lambda: np.indices(SIZE).sum(0)[..., None] % 2 * 100 + 50,
    "gray texture": data.brick,
    "enlarged by nearest": lambda: halved("coffee").repeat(2, 0).repeat(2, 1),
    "enlarged by bicubic": lambda: bicubic_resize(halved("coffee"), 2),
}


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_where_nothing_is(name: str) -> None:
    levels = np.atleast_3d(SOUND[name]()).clip(0, 255).round().astype(np.uint8)
    found = look(levels)
    assert (found.sigma < CLEAN, found.jpeg_quality, found.blur < 1.2) == (True, 100, True), found


def test_noise_between_black_bars_and_in_the_dark() -> None:
    for picture in (letterbox(), (halved("cat") * 0.2).astype(np.uint8)):
        bars = picture.max(axis=(1, 2), keepdims=True) == 0
        assert look(noisy(picture, 30) * ~bars).sigma == pytest.approx(30, rel=0.1)


def test_noise_in_a_jpeg_of_high_quality() -> None:
    found = look(jpeg_compress(noisy(halved("coffee"), 20), 92))
    assert (found.jpeg_quality, found.sigma) == (92, pytest.approx(20, rel=0.2))


@pytest.mark.parametrize("blur", [1.5, 2.5])
def test_blur(blur: float) -> None:
    steps = np.repeat(RANDOM.integers(20, 236, 20), 30)
    kernel = np.exp(-(np.arange(-12, 13) ** 2) / (2 * blur**2))
    smooth = np.convolve(steps, kernel / kernel.sum(), "same")
    picture = np.broadcast_to(smooth[15:-15, None, None], (570, 40, 1)).round().astype(np.uint8)
    assert look(picture).blur == pytest.approx(blur, rel=0.15)


@pytest.mark.parametrize("shape", [(1300, 1000), (60, 20000), (20000, 60)])
def test_large_pictures_are_told_by_parts_as_by_all(shape: tuple[int, int]) -> None:
    tile = jpeg_compress(halved("coffee")[:96, :144], 60)
    copies = -(-shape[0] // 96), -(-shape[1] // 144), 1
    found = look(np.tile(tile, copies)[: shape[0], : shape[1]])
    assert (found.jpeg_quality, found.gray) == (60, False)


def test_floats_gray_colour_and_alpha_are_told_alike() -> None:
    gray = noisy(halved("coffee", 1), 15)
    same = look(gray)
    alpha = RANDOM.integers(0, 256, gray.shape, np.uint8)
    for picture in (to_floats(gray), gray.repeat(3, 2), np.concatenate([gray, alpha], 2)):
        assert look(picture) == same


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((31, 40, 3)), "at least 32 x 32 pixels, this one has 40 x 31"),
        (np.zeros((40, 40)), r"\(H, W, 1 to 4\)"),
        (np.full((40, 40, 3), np.nan), "NaN"),
    ],
)
def test_what_cannot_be_looked_at(picture: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        look(picture)
