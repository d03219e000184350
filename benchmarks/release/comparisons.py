"""Draw docs/comparisons.jpg: pictures kept aside, by bicubic, by real_x4_light and by its teacher.

    python -m benchmarks.release.comparisons --teacher RealESRGAN_x4plus.safetensors

Every picture is restored as ``against_teacher`` scores it, and its middle is drawn. All of them are
in the public domain or CC0.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw

from benchmarks.release.against_teacher import Enlarge, kept_aside, student_of, teacher_of
from swinir_core import load_model
from swinir_core.images.levels import to_integers

DOCS = Path(__file__).parents[2] / "docs"
ROWS = (
    ("grace_hopper.jpg", "chelsea.png"),
    ("coffee.png", "rocket.jpg"),
    ("brick.png", "grass.png"),
    ("page.png", "text.png"),
    ("coins.png", "camera.png"),
    ("astronaut.png", "hubble_deep_field.jpg"),
)
SIDE, GAP, TITLE = 224, 6, 18
"""Pixels of the results: a cell, the space between cells, the line of titles."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True, help="a model spandrel reads")
    args = parser.parse_args()
    columns: dict[str, Enlarge] = {
        "bicubic": bicubic,
        "real_x4_light": student_of(load_model("real_x4_light")),
        args.teacher.stem: teacher_of(args.teacher),
    }
    pictures = dict(kept_aside())
    width = 2 * len(columns) * (SIDE + GAP) + GAP
    sheet = PIL.Image.new("RGB", (width, TITLE + len(ROWS) * (SIDE + GAP)), "white")
    draw = PIL.ImageDraw.Draw(sheet)
    for row, names in enumerate(ROWS):
        for block, name in enumerate(names):
            for column, (title, enlarge) in enumerate(columns.items()):
                left = (block * len(columns) + column) * (SIDE + GAP) + GAP * block
                draw.text((left, 2), title, fill="black")
                cell = middle(enlarge(pictures[name]))
                sheet.paste(PIL.Image.fromarray(cell), (left, TITLE + row * (SIDE + GAP)))
    sheet.save(DOCS / "comparisons.jpg", quality=82)


def bicubic(low: np.ndarray) -> np.ndarray:
    picture = PIL.Image.fromarray(to_integers(low))
    size = (4 * picture.width, 4 * picture.height)
    return np.asarray(picture.resize(size, PIL.Image.Resampling.BICUBIC))


def middle(picture: np.ndarray) -> np.ndarray:
    top, left = ((side - SIDE) // 2 for side in picture.shape[:2])
    return picture[top : top + SIDE, left : left + SIDE]


if __name__ == "__main__":
    main()
