"""Reports of a run: the table of losses and scores, their curves, pictures of samples."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..evaluation.scoring import restored
from ..evaluation.test_sets import PixelPair
from ..files import replacing
from ..images.color import to_channels
from ..images.levels import to_integers
from ..restoration.restorer import Restorer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG = "log.csv"
CURVES = "curves.png"
SAMPLES = "samples"
FORMATS = {
    "step": ".0f",
    "seconds": ".1f",
    "learning_rate": ".3e",
    "loss": ".6f",
    "psnr": ".4f",
    "ssim": ".5f",
}
"""Columns of the table. The terms of ``loss``, the sum that is minimised, and the loss of the
``critic`` follow. Losses are means since the line before; scores are empty without a validation."""

_CURVES = {"loss": "loss", "psnr": "PSNR, dB", "ssim": "SSIM"}
_SAMPLE_SIDE = 192
_GAP = 4

Row = dict[str, float]


def read_rows(path: Path, step: int) -> list[Row]:
    """Read the lines of a table up to ``step``; a resumed run takes the later steps again."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            {key: float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if row["step"] <= step]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write the table as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*FORMATS, *_terms(rows)], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: format(row[name], FORMATS.get(name, ".6f")) for name in row})
    with replacing(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def _terms(rows: Sequence[Row]) -> list[str]:
    """Names of the losses that ``loss`` consists of, and of the discriminator's."""
    return list(dict.fromkeys(name for row in rows for name in row if name not in FORMATS))


def summary(row: Row, steps: int) -> str:
    """Format a line for the terminal, with the time left at the speed of the run so far."""
    terms = _terms([row])
    losses = ["loss", *terms] if len(terms) > 1 else ["loss"]
    parts = [f"step {int(row['step']):,} of {steps:,}"]
    parts += [f"{name} {row[name]:.5f}" for name in losses if name in row]
    if "psnr" in row:
        parts.append(f"PSNR {row['psnr']:.2f} dB, SSIM {row['ssim']:.4f}")
    left = row["seconds"] / max(row["step"], 1) * (steps - row["step"])
    parts.append(f"{tqdm.format_interval(left)} left")
    return "  ".join(parts)


def write_curves(path: Path, rows: Sequence[Row]) -> None:
    """Write ``draw_curves`` of the rows as a PNG file of 800 pixels by 300 a panel."""
    with replacing(path) as part:
        draw_curves(rows).savefig(part, format="png", dpi=100)


def draw_curves(rows: Sequence[Row]) -> Figure:
    """Loss (logarithmic), PSNR and SSIM over the steps, a panel each.

    Values that are not finite are left out, and so are panels without values.
    """
    # Only where a picture is drawn, for it takes half a second; of the object interface, because
    # pyplot keeps figures and opens windows.
    from matplotlib.figure import Figure

    curves: dict[str, dict[float, float]] = {}
    for column, title in _CURVES.items():
        values = {row["step"]: row[column] for row in rows if column in row}
        finite = {step: value for step, value in values.items() if math.isfinite(value)}
        curves |= {title: finite} if finite else {}
    count = max(len(curves), 1)
    figure = Figure(figsize=(8, 3 * count), facecolor="white", layout="constrained")
    panels = figure.subplots(count, sharex=True, squeeze=False)[:, 0]
    for panel, (title, values) in zip(panels, curves.items(), strict=False):
        panel.plot(values.keys(), values.values(), color="#1464b4", marker="o", markevery=[-1])
        panel.set_title(title, loc="left", fontsize="medium")
        panel.set_yscale("log" if title == "loss" and min(values.values()) > 0 else "linear")
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.tick_params(labelbottom=True)
        panel.grid(color="#dddddd", which="both")
    return figure


def write_samples(path: Path, restorer: Restorer, images: Sequence[PixelPair]) -> None:
    """Write the middle of each image as a row of a PNG file: input, output, truth.

    The pixels of an input are enlarged by the scale of the model.
    """
    rows = [_sample(restorer, image) for image in images]
    width = max(row.shape[1] for row in rows)
    gaps = [((0, _GAP), (0, width - row.shape[1]), (0, 0)) for row in rows]
    framed = [np.pad(row, gap, constant_values=255) for row, gap in zip(rows, gaps, strict=True)]
    canvas = np.concatenate(framed)[:-_GAP]
    with replacing(path) as part:
        Image.fromarray(canvas).save(part, "PNG")


def _sample(restorer: Restorer, image: PixelPair) -> np.ndarray:
    """Input, output and truth side by side, uint8 (H, W, 3)."""
    scale = restorer.model.scale
    low = _middle(image.low, _SAMPLE_SIDE // scale)
    high = _middle(image.high, _SAMPLE_SIDE // scale * scale, scale)
    seen = to_integers(low).repeat(scale, axis=0).repeat(scale, axis=1)
    white = np.full((high.shape[0], _GAP, 3), 255, np.uint8)
    seen, output, high = (to_channels(part, 3) for part in (seen, restored(restorer, low), high))
    return np.concatenate([seen, white, output, white, high], axis=1)


def _middle(image: np.ndarray, side: int, grid: int = 1) -> np.ndarray:
    """Crop to at most ``side`` pixels each way, beginning at a multiple of ``grid``."""
    top, left = (max(length - side, 0) // 2 // grid * grid for length in image.shape[:2])
    return image[top : top + side, left : left + side]
