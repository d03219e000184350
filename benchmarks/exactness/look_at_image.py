"""Errors of what Look at Image tells of noise, JPEG and clean pictures, and its time.

    python -m benchmarks.exactness.look_at_image bsd100 \\
        --json benchmarks/results/look-at-image.json

Photographs are halved first by MATLAB's bicubic, for those of BSD are JPEG files themselves. Noise
is clipped and rounded to 8 bits; the grid of JPEG blocks is cut at another place in every picture.
The time is that of 4000 x 3000 pixels on one core, made of copies of the first photograph. For
light damage, the strength that is advised is set beside the best: that at which the result, mixed
with the input, comes closest to the original, in the middle of ten photographs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import common
from swinir_core import Restorer, bundled_models, load_model
from swinir_core.checkpoints.advice import advise
from swinir_core.cli.options import path_argument
from swinir_core.degradation.noise_and_jpeg import add_gaussian_noise, jpeg_compress
from swinir_core.image_files.finding import images_in
from swinir_core.image_files.reading import open_image
from swinir_core.images.color import to_channels
from swinir_core.images.levels import to_floats, to_integers
from swinir_core.images.looking import Look, look
from swinir_core.images.resize import bicubic_resize

SIGMAS = (5, 10, 15, 25, 35, 50)
QUALITIES = (10, 20, 30, 40, 50, 60, 70, 80, 90)
ROUNDS = 5
STRENGTHS = np.linspace(0, 1, 21)
MIXED: dict[str, tuple[int, ...]] = {
    "denoise_color_light": (5, 8, 10, 15),
    "denoise_gray_light": (5, 8, 10, 15),
    "jpeg_color_light": (40, 60, 75, 85, 92),
}
"""Sigmas and qualities at which strengths are compared."""


def main() -> None:
    script = common.parser(__doc__)
    script.add_argument("photographs", type=path_argument)
    script.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth")
    args = script.parse_args()
    torch.set_num_threads(1)
    paths = [args.photographs / path for path in images_in(args.photographs)][:: args.every]
    found: dict[str, Any] = {}
    for kind, channels in (("colour", 3), ("gray", 1)):
        pictures = [to_channels(halved(path), channels) for path in paths]
        found[kind] = {
            "pictures": len(pictures),
            "clean": clean(map(look, pictures)),
            "sigma": {sigma: of_sigma(pictures, sigma) for sigma in SIGMAS},
            "jpeg quality": {quality: of_quality(pictures, quality) for quality in QUALITIES},
        }
    found["seconds at 12 megapixels"] = seconds(halved(paths[0]))
    middles = [middle(halved(path)) for path in paths[:: max(len(paths) // 10, 1)][:10]]
    found["strength"] = {
        name: {level: of_strength(name, level, middles) for level in levels}
        for name, levels in MIXED.items()
    }
    report(found)
    common.write(args.json, found)


def halved(path: Path) -> np.ndarray:
    """Read a photograph and halve it: uint8 (h, w, C)."""
    levels = open_image(path).levels()
    height, width = (side // 2 * 2 for side in levels.shape[:2])
    return bicubic_resize(levels[:height, :width], 0.5)


def clean(looks: Iterable[Look]) -> dict[str, float]:
    """Shares of pictures that are called clean, and without each kind of damage."""
    looks = list(looks)
    advice = [advise(seen, bundled_models()) for seen in looks]
    return {
        "called clean": float(np.mean([one.clean for one in advice])),
        "no jpeg": float(np.mean([seen.jpeg_quality == 100 for seen in looks])),
        "largest sigma": max(seen.sigma for seen in looks),
        "largest blur": max(seen.blur for seen in looks),
    }


def of_sigma(pictures: list[np.ndarray], sigma: int) -> dict[str, float]:
    random = np.random.default_rng(sigma)

    def noisy(levels: np.ndarray) -> np.ndarray:
        return to_integers(add_gaussian_noise(to_floats(levels), sigma, random))

    return errors([look(noisy(levels)).sigma for levels in pictures], sigma, 0.2 * sigma)


def of_quality(pictures: list[np.ndarray], quality: int) -> dict[str, float]:
    def saved(levels: np.ndarray, number: int) -> np.ndarray:
        return jpeg_compress(levels, quality)[number % 8 :, number // 8 % 8 :]

    looks = [look(saved(levels, number)) for number, levels in enumerate(pictures)]
    return errors([seen.jpeg_quality for seen in looks], quality, 10)


def middle(levels: np.ndarray) -> np.ndarray:
    """The middle 128 x 128 pixels of (h, w, C)."""
    top, left = ((side - 128) // 2 for side in levels.shape[:2])
    return np.ascontiguousarray(levels[top : top + 128, left : left + 128])


def of_strength(name: str, level: int, middles: list[np.ndarray]) -> dict[str, float]:
    """The strength that is advised, the best, and decibels gained by each and by all of the
    result: means over pictures, for damage that is told exactly."""
    model = load_model(name)
    restorer, random = Restorer(model), np.random.default_rng(level)
    is_jpeg, gray = name.startswith("jpeg"), model.in_channels == 1
    seen = Look(0 if is_jpeg else level, level if is_jpeg else 100, 0.5, gray)
    advised = advise(seen, bundled_models()).strength
    gains = np.zeros((len(middles), len(STRENGTHS)))
    of_advised = []
    for number, colours in enumerate(middles):
        original = to_channels(colours, model.in_channels)
        if is_jpeg:
            damaged = to_floats(jpeg_compress(original, level))
        else:
            noisy = add_gaussian_noise(to_floats(original), level, random)
            damaged = to_floats(to_integers(noisy))
        change = restorer(torch.from_numpy(damaged)[None])[0].numpy() - damaged
        off = damaged - to_floats(original)

        def decibels(strength: float, change=change, off=off) -> float:
            return float(10 * np.log10(np.mean(off**2) / np.mean((off + strength * change) ** 2)))

        gains[number] = [decibels(strength) for strength in STRENGTHS]
        of_advised.append(decibels(advised))
    mean = gains.mean(axis=0)
    return {
        "advised": advised,
        "best": float(STRENGTHS[mean.argmax()]),
        "gained as advised": float(np.mean(of_advised)),
        "gained at best": float(mean.max()),
        "gained by all": float(mean[-1]),
    }


def errors(values: list[float], true: float, allowed: float) -> dict[str, float]:
    off = np.abs(np.array(values) - true)
    return {
        "median": float(np.median(values)),
        "largest error": float(off.max()),
        "share within bound": float(np.mean(off <= allowed)),
    }


def seconds(levels: np.ndarray) -> dict[str, float]:
    """The least and the median time of several rounds, processor seconds."""
    copies = -(-3000 // levels.shape[0]), -(-4000 // levels.shape[1]), 1
    image = to_floats(np.tile(levels, copies)[:3000, :4000])
    timed = [measured(lambda: look(image)) for _ in range(ROUNDS)]
    return {"least": min(timed), "median": float(np.median(timed))}


def measured(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def report(found: dict[str, Any]) -> None:
    for kind in ("colour", "gray"):
        print(f"{kind}, clean: {found[kind]['clean']}")
        for name in ("sigma", "jpeg quality"):
            for true, facts in found[kind][name].items():
                print(f"{kind}, {name} {true}: {facts}")
    for name, levels in found["strength"].items():
        for level, facts in levels.items():
            print(f"strength of {name} at {level}: {facts}")
    print(f"seconds at 12 megapixels: {found['seconds at 12 megapixels']}")


if __name__ == "__main__":
    main()
