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
from ..images.levels import to_integers
from ..restoration.restorer import Restorer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOG = "log.csv"
CURVES = "curves.png"
SAMPLES = "samples"
TERMS = ("pixel", "perceptual", "gan", "critic")
COLUMNS: tuple[str, ...] = ("step", "seconds", "learning_rate", "loss", *TERMS, "psnr", "ssim")
"""Of the table. ``loss`` is the sum of ``pixel``, ``perceptual`` and ``gan``; ``critic`` is the
discriminator's own. Losses are means since the line before, scores empty where none were taken."""

_FORMATS = {"step": "d", "seconds": ".1f", "learning_rate": ".3e", "psnr": ".4f", "ssim": ".5f"}
_CURVES = {"loss": "loss", "psnr": "PSNR, dB", "ssim": "SSIM"}
_SAMPLE_SIDE = 192
_GAP = 4

Row = dict[str, float]


def read_rows(path: Path, step: int) -> list[Row]:
    """The lines of a table up to ``step``: later ones are of steps a resumed run takes again."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            {key: float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if row["step"] <= step]


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """The table as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _shown(key, value) for key, value in row.items()})
    with replacing(path) as part:
        part.write_text(text.getvalue(), encoding="utf-8")


def summary(row: Row, steps: int) -> str:
    """A line for the terminal, with the time left at the speed of the run so far."""
    losses = {name: row[name] for name in ("loss", *TERMS) if name in row}
    if len(losses) == 2:  # the loss and its only term
        del losses["pixel"]
    parts = [f"step {int(row['step']):,} of {steps:,}"]
    parts += [f"{name} {value:.5f}" for name, value in losses.items()]
    if "psnr" in row:
        parts.append(f"PSNR {row['psnr']:.2f} dB, SSIM {row['ssim']:.4f}")
    left = row["seconds"] / max(row["step"], 1) * (steps - row["step"])
    parts.append(f"{tqdm.format_interval(left)} left")
    return "  ".join(parts)


def _shown(column: str, value: float) -> str:
    wanted = _FORMATS.get(column, ".6f")
    return format(int(value) if wanted == "d" else value, wanted)


def write_curves(path: Path, rows: Sequence[Row]) -> None:
    """Write ``draw_curves`` of the rows as a PNG file of 800 pixels by 300 a panel."""
    file = io.BytesIO()
    draw_curves(rows).savefig(file, format="png", dpi=100)
    _replace(path, file)


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
    """The middle of each image, a row each: input, output, truth. An input that is enlarged by
    the model is shown with larger pixels."""
    rows = [_sample(restorer, image) for image in images]
    width = max(row.shape[1] for row in rows)
    canvas = np.full((sum(row.shape[0] + _GAP for row in rows) - _GAP, width, 3), 255, np.uint8)
    top = 0
    for row in rows:
        canvas[top : top + row.shape[0], : row.shape[1]] = row
        top += row.shape[0] + _GAP
    file = io.BytesIO()
    Image.fromarray(canvas).save(file, "PNG")
    _replace(path, file)


def _sample(restorer: Restorer, image: PixelPair) -> np.ndarray:
    scale = restorer.model.scale
    low = _middle(image.low, _SAMPLE_SIDE // scale)
    high = _middle(image.high, _SAMPLE_SIDE // scale * scale, scale)
    seen = to_integers(low).repeat(scale, axis=0).repeat(scale, axis=1)
    white = np.full((high.shape[0], _GAP, 3), 255, np.uint8)
    seen, output, high = (
        part if part.shape[2] == 3 else part.repeat(3, axis=2)
        for part in (seen, restored(restorer, low), high)
    )
    return np.concatenate([seen, white, output, white, high], axis=1)


def _middle(image: np.ndarray, side: int, grid: int = 1) -> np.ndarray:
    """At most ``side`` pixels each way, beginning at a multiple of ``grid``."""
    top, left = (max(length - side, 0) // 2 // grid * grid for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _replace(path: Path, file: io.BytesIO) -> None:
    with replacing(path) as part:
        part.write_bytes(file.getvalue())
