"""Flicker of restored frames before and after it is damped, and the cost where things move.

    python -m benchmarks.exactness.flicker --json benchmarks/results/flicker.json

Short videos are made from the bundled samples, with noise that is another in every frame: two
discs, one three and one half a pixel a frame fast, over a background that stands still and is
another from the middle on; and a view that moves over a picture. Some go through a video file
before they are restored. Flicker is the mean difference between a result and the one before it
where the clean frames are equal, and 4 input pixels around too; the PSNR is against the clean
frames.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import common
from swinir_core import Restorer, load_model
from swinir_core.degradation.samples import degraded, read_sample, views
from swinir_core.video_files.encoding import Encoding
from swinir_core.video_files.flicker import Steadier
from swinir_core.video_files.reading import FileVideo, FramesVideo
from swinir_core.video_files.writing import VideoWriter

FRAMES = 16
HEIGHT, WIDTH = 96, 128
"""Of the input, in pixels."""

DISCS = (("cat", 3.0, 8, 4, 36), ("astronaut", 0.5, 54, 70, 36))
"""Picture, input pixels a frame, top, left at first, and diameter."""

_VISIBLE = 2 / 255
"""Change of a clean pixel from which on it moves."""


@dataclass(frozen=True)
class Case:
    """A model and what it is given."""

    model: str
    scale: int
    noise: int
    """In levels."""
    crf: int | None = None
    """Of a file in h264 that the frames go through."""


CASES = (
    Case("denoise_color_light", 1, 25),
    Case("denoise_color_light", 1, 15),
    Case("real_x4_light", 4, 1),
    Case("real_x4_light", 4, 5),
    Case("real_x4_light", 4, 5, 18),
    Case("real_x4_light", 4, 5, 28),
)


def main() -> None:
    args = common.parser(__doc__).parse_args()
    found = [
        {**vars(case), "video": name, **measure(case, make(case.scale))}
        for case in CASES
        for name, make in (("discs", discs), ("view", moving_view))
    ]
    print(json.dumps(found, indent=2))
    common.write(args.json, {"cases": found})


def discs(scale: int) -> list[np.ndarray]:
    """Make the clean frames of discs before a background: (s * HEIGHT, s * WIDTH, 3) each."""
    pictures = [middle(name, diameter * scale, diameter * scale) for name, *_, diameter in DISCS]
    scenes = [middle(name, HEIGHT * scale, WIDTH * scale) for name in ("coffee", "rocket")]
    frames = []
    for number in range(FRAMES):
        frame = scenes[2 * number // FRAMES].copy()
        for picture, (_, speed, top, left, diameter) in zip(pictures, DISCS, strict=True):
            side = diameter * scale
            part = frame[top * scale :, round((left + speed * number) * scale) :][:side, :side]
            y, x = np.mgrid[:side, :side] - (side - 1) / 2
            inside = (y**2 + x**2 < (side / 2) ** 2)[:, : part.shape[1]]
            part[inside] = picture[:, : part.shape[1]][inside]
        frames.append(frame)
    return frames


def moving_view(scale: int) -> list[np.ndarray]:
    """Make the clean frames of a view that moves: (s * HEIGHT, s * WIDTH, 3) each."""
    picture = middle("coffee", HEIGHT * scale * 4 // 3, WIDTH * scale * 4 // 3)
    return views(picture, FRAMES)


def middle(name: str, height: int, width: int) -> np.ndarray:
    """Cut the middle of a sample, continued by its mirror image where it is too small."""
    picture = read_sample(name)
    beyond = [max(side - own, 0) for side, own in zip((height, width), picture.shape, strict=False)]
    picture = np.pad(picture, [(0, beyond[0]), (0, beyond[1]), (0, 0)], mode="symmetric")
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def measure(case: Case, clean: list[np.ndarray]) -> dict[str, float]:
    inputs = torch.from_numpy(
        np.stack(
            [degraded(frame, case.scale, case.noise, seed=i)[0] for i, frame in enumerate(clean)]
        )
    ).float()
    if case.crf is not None:
        inputs = through_file(inputs, case.crf)
    truth = torch.from_numpy(np.stack(clean))
    restorer, steadier = Restorer(load_model(case.model)), Steadier()
    plain = torch.cat([restorer(frame[None]) for frame in inputs])
    steady = torch.stack([steadier.add(*pair) for pair in zip(inputs, plain, strict=True)])
    changes = (truth[1:] - truth[:-1]).abs().amax(-1) > _VISIBLE
    moving, still = grown(changes, 2 * case.scale), ~grown(changes, 4 * case.scale)
    found: dict[str, float] = {"share that moves": moving.float().mean().item()}
    for name, results in (("plain", plain), ("steady", steady)):
        change = (results[1:] - results[:-1]).abs().mean(-1)
        error = (results - truth)[1:].square().mean(-1)
        if still.any():
            found[f"{name}: flicker in levels"] = 255 * change[still].mean().item()
            found[f"{name}: PSNR where nothing moves"] = decibels(error[still])
        found[f"{name}: PSNR where it moves"] = decibels(error[moving])
    return {name: round(value, 3) for name, value in found.items()}


def through_file(frames: Tensor, crf: int) -> Tensor:
    """Write frames into a video and read them again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frames.mp4"
        video = FramesVideo(frames, Fraction(25))
        with VideoWriter(path, video, Encoding(crf=crf)) as writer:
            for frame in video.frames():
                writer.add(frame.pixels, frame)
        with FileVideo(path) as video:
            return torch.stack([frame.pixels for frame in video.frames()])


def grown(marks: Tensor, reach: int) -> Tensor:
    """Mark (n, H, W) up to ``reach`` pixels around what is marked too."""
    return F.max_pool2d(marks.float()[:, None], 2 * reach + 1, 1, reach)[:, 0] > 0


def decibels(error: Tensor) -> float:
    return float(-10 * error.mean().log10())


if __name__ == "__main__":
    main()
