"""Draw the icon (400x400) and the banner (1344x576) that the registry shows.

python -m benchmarks.release.icon
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

DOCS = Path(__file__).parents[2] / "docs"
SKY, GLOW, HILL, FIELD = ((28, 42, 92), (255, 170, 92), (54, 66, 120), (30, 120, 110))


def scene(height: int, width: int) -> np.ndarray:
    """A sun above hills, (height, width, 3) in 0..255."""
    y, x = np.mgrid[0:height, 0:width] / height
    picture = np.empty((height, width, 3))
    sun = np.hypot(x - 0.62 * width / height, y - 0.40)
    glow = np.exp(-((sun / 0.42) ** 2))[..., None]
    picture[:] = np.array(SKY) * (1 - glow) + np.array(GLOW) * glow
    picture[sun < 0.15] = (255, 236, 190)
    picture[y > 0.62 + 0.10 * np.sin(4.2 * x + 0.6)] = HILL
    picture[y > 0.78 + 0.06 * np.sin(6.1 * x + 2.4)] = FIELD
    return picture


def half_restored(height: int, width: int, block: int) -> Image.Image:
    """Coarse blocks at the left, the picture itself at the right."""
    fine = scene(4 * height, 4 * width).reshape(height, 4, width, 4, 3).mean((1, 3))
    coarse = fine.reshape(height // block, block, width // block, block, 3).mean((1, 3))
    picture = coarse.repeat(block, 0).repeat(block, 1)
    picture[:, width // 2 :] = fine[:, width // 2 :]
    picture[:, width // 2 - 2 : width // 2 + 2] = 255
    return Image.fromarray(picture.round().astype(np.uint8))


if __name__ == "__main__":
    half_restored(400, 400, 25).save(DOCS / "icon.png", optimize=True)
    half_restored(576, 1344, 48).save(DOCS / "banner.png", optimize=True)
