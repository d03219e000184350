"""Draw docs/options.jpg: what wrapped edges, a size and a strength do to sample pictures.

python -m benchmarks.release.options
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import swinir_core as sc
from swinir_core.choices import TEXTURE
from swinir_core.degradation.samples import degraded, read_sample
from swinir_core.images.levels import to_integers
from swinir_core.restoration.inputs import check_inputs
from swinir_core.restoration.sizing import TargetSize, restore_to_size

HEIGHT, GAP = 384, 6


def main() -> None:
    sheet = side_by_side([edges(), size(), strengths()], 2 * GAP)
    sheet.save(Path(__file__).parents[2] / "docs" / "options.jpg", quality=88, optimize=True)


def edges() -> Image.Image:
    """The place where four copies of an enlarged texture meet: by the network alone, wrapped."""
    texture, _ = degraded(read_sample(TEXTURE), shrink=3)
    zoom, width = 2, 116
    halves = []
    for way in ("network", "wrapped"):
        result = restored("real_x4_light", texture, edges=way)
        middle = np.roll(result, (HEIGHT // zoom // 2, width // 2), (0, 1))
        halves.append(zoomed(middle[: HEIGHT // zoom, :width], zoom))
    return side_by_side(halves, GAP)


def size() -> Image.Image:
    """A picture restored to a longer side of 588 pixels, with the picture itself over it."""
    small, _ = degraded(read_sample("rocket"), shrink=2)
    restorer = sc.Restorer(sc.load_model("upscale_x4_light"))
    inputs = check_inputs(torch.from_numpy(small)[None])
    target = TargetSize("longer side", 588)
    large = Image.fromarray(to_integers(restore_to_size(restorer, inputs, target)[0].numpy()))
    inset = Image.fromarray(to_integers(small))
    frame = Image.new("RGB", (inset.width + GAP, inset.height + GAP), "white")
    frame.paste(inset, (GAP // 2, GAP // 2))
    large.paste(frame, (2 * GAP, 2 * GAP))
    return large


def strengths() -> Image.Image:
    """A noisy picture, in thirds: as it is, at half and at full strength."""
    noisy, _ = degraded(read_sample("coffee"), noise=25)
    left, width, zoom = 78, 60, 2
    thirds = []
    for number, strength in enumerate((0, 0.5, 1)):
        result = restored("denoise_color_light", noisy, strength=strength)
        start = left + number * width
        thirds.append(zoomed(result[:, start : start + width], zoom))
    return side_by_side(thirds, GAP)


def restored(model: str, picture: np.ndarray, **options: Any) -> np.ndarray:
    restorer = sc.Restorer(sc.load_model(model), **options)
    return restorer(torch.from_numpy(picture)[None])[0].clamp(0, 1).numpy()


def zoomed(picture: np.ndarray, zoom: int) -> Image.Image:
    image = Image.fromarray(to_integers(picture))
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.BICUBIC)


def side_by_side(pictures: list[Image.Image], gap: int) -> Image.Image:
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    sheet = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width + gap
    return sheet


if __name__ == "__main__":
    main()
