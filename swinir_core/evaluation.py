"""Scores by the protocol of the paper's tables.

Inputs are made, images padded and outputs scored as the reference implementation does it
(https://github.com/JingyunLiang/SwinIR, main_test_swinir.py); ``docs/evaluation.md`` says how, and
what differs. Real-world super-resolution, for which the paper has pictures only, is scored as the
other super-resolution, on blind degradations with fixed seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from . import metrics
from .blind_degradation import degrade_blindly
from .color import rgb_to_gray, rgb_to_y
from .config import SwinIRConfig
from .degradation import bicubic_resize, jpeg_compress
from .errors import ImageError
from .image_files import find_images
from .image_io import read_image, to_integers
from .network import SwinIR
from .restorer import Restorer
from .run import Progress
from .symmetric_padding import SymmetricPadding

TASKS = ("sr", "real_sr", "denoise", "jpeg")
DEFAULT_SIGMA = 25.0
DEFAULT_QUALITY = 10
NOISE_SEED = 0

_SSIM_LEAST = 11
_PSNR_B_LEAST = 16
_UNTOUCHED = {"sr": "bicubic", "real_sr": "bicubic", "denoise": "noisy", "jpeg": "JPEG"}


@dataclass(frozen=True)
class Protocol:
    """How inputs are made from good images, and how results are scored."""

    task: str
    """One of ``TASKS``."""

    scale: int

    channels: int
    """Of the images that are restored and compared: 1 (gray) or 3 (RGB)."""

    sigma: float | None = None
    """Of the noise, in levels of 255, for denoising only."""

    quality: int | None = None
    """Of the JPEG files, for JPEG only."""

    @property
    def border(self) -> int:
        """Pixels on every side of a result that scores ignore."""
        return self.scale if self.enlarges else 0

    @property
    def y_channel(self) -> bool:
        return self.enlarges

    @property
    def enlarges(self) -> bool:
        return self.task in ("sr", "real_sr")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores, PSNR first."""
        if self.enlarges:
            return ("PSNR-Y", "SSIM-Y")
        return ("PSNR", "SSIM", "PSNR-B") if self.task == "jpeg" else ("PSNR", "SSIM")

    @property
    def untouched(self) -> str:
        """What an input is called that no model has seen."""
        return _UNTOUCHED[self.task]


def find_protocol(
    config: SwinIRConfig,
    task: str | None = None,
    sigma: float | None = None,
    quality: int | None = None,
    gray: bool = False,
) -> Protocol:
    """The protocol for a model of ``config``: by default that of the model's own task, at sigma 25
    or quality 10.

    Super-resolution takes RGB images whatever the model's channels are, of which a gray model
    restores one by one; the other tasks take gray ones for a gray model and where ``gray`` says
    so. Raises ``ValueError`` for what contradicts the model or the task.
    """
    own = config.task if config.task == "real_sr" else config.task.rpartition("_")[2]
    task = task or own
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
    enlarges = task in ("sr", "real_sr")
    if enlarges and config.scale == 1:
        raise ValueError(f"the model does not enlarge, which {task} asks for; try denoise or jpeg")
    if not enlarges and config.scale > 1:
        raise ValueError(f"the model enlarges {config.scale} times, which {task} does not; try sr")
    given = {"sigma": (sigma, "denoise"), "quality": (quality, "jpeg")}
    for name, (value, its_task) in given.items():
        if value is not None and task != its_task:
            raise ValueError(f"a {name} is for {its_task}, not for {task}")
    if gray and enlarges:
        raise ValueError(f"gray images are for denoise and jpeg, not for {task}")
    if sigma is not None and not 0 < sigma <= 255:
        raise ValueError(f"sigma must be a level above 0 and up to 255, got {sigma}")
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must be 1 to 100, got {quality}")
    return Protocol(
        task,
        config.scale,
        channels=1 if gray or (config.in_channels == 1 and not enlarges) else 3,
        sigma=(DEFAULT_SIGMA if sigma is None else sigma) if task == "denoise" else None,
        quality=(DEFAULT_QUALITY if quality is None else quality) if task == "jpeg" else None,
    )


@dataclass(frozen=True)
class ImagePair:
    """One image of a test set and, where the set brings it, its input."""

    name: str
    high: Path
    low: Path | None

    seed: int
    """Of its blind degradation: its place in the set."""


@dataclass(frozen=True)
class ImageScores:
    """What one image scores, by the names in ``Protocol.metrics``; PSNR in dB."""

    name: str
    output: dict[str, float]
    untouched: dict[str, float]
    """The same of the input itself, which for super-resolution is enlarged by MATLAB's bicubic."""

    tiles: int
    """Into how many the image was cut for want of memory; not quite the protocol where not 1."""


def find_pairs(folder: Path, protocol: Protocol) -> list[ImagePair]:
    """The images of a folder, searched to any depth, or of its ``HR`` folder where it has one.

    For super-resolution inputs are taken from ``LR_bicubic/X2/namex2.png`` beside
    ``HR/name.png`` where the folder ``LR_bicubic/X2`` exists. Raises ``ImageError`` where there
    are no images, and for an input that is missing there.
    """
    high_folder = folder / "HR" if (folder / "HR").is_dir() else folder
    low_folder = folder / "LR_bicubic" / f"X{protocol.scale}"
    has_inputs = protocol.task == "sr" and high_folder != folder and low_folder.is_dir()
    images = []
    for seed, (path, inside) in enumerate(find_images([str(high_folder)])):
        low = low_folder / f"{path.stem}x{protocol.scale}{path.suffix}" if has_inputs else None
        if low is not None and not low.is_file():
            raise ImageError(
                f"{low}: the input of {path} is missing; without the folder {low_folder} all "
                "inputs are made."
            )
        images.append(ImagePair(inside.as_posix(), path, low, seed))
    return images


def read_pair(image: ImagePair, protocol: Protocol) -> tuple[np.ndarray, np.ndarray]:
    """An input, float32 (H, W, C), 0..1 but for noise, and what it should become, uint8
    (scale*H, scale*W, C). Raises ``ImageError``."""
    scale = protocol.scale
    high = _read(image.high, protocol)
    height, width = high.shape[0] // scale, high.shape[1] // scale
    high = high[: height * scale, : width * scale]
    least = 2 * protocol.border + (_PSNR_B_LEAST if protocol.task == "jpeg" else _SSIM_LEAST)
    if min(high.shape[:2]) < least:
        raise ImageError(f"{image.high} is too small to score: {least}x{least} pixels are needed.")
    if image.low is None:
        return make_input(high, protocol, image.seed), high
    low = _read(image.low, protocol)
    if low.shape[:2] != (height, width):
        raise ImageError(
            f"{image.low} has {low.shape[1]}x{low.shape[0]} pixels, but {image.high} calls for "
            f"{width}x{height}."
        )
    return _to_float(low), high


def seed_of(image: ImagePair, protocol: Protocol) -> int | None:
    """What the randomness in an input was begun with; ``None`` where there is none."""
    if image.low is None and protocol.task == "real_sr":
        return image.seed
    return NOISE_SEED if protocol.task == "denoise" else None


def make_input(high: np.ndarray, protocol: Protocol, seed: int) -> np.ndarray:
    """The input for a good image, uint8 (scale*H, scale*W, C): float32 (H, W, C)."""
    if protocol.task == "sr":
        return _to_float(bicubic_resize(high, 1 / protocol.scale))
    if protocol.task == "real_sr":
        random = np.random.default_rng(seed)
        return degrade_blindly(_to_float(high), protocol.scale, random)
    if protocol.sigma is not None:
        noise = np.random.RandomState(NOISE_SEED).normal(0, protocol.sigma / 255, high.shape)
        # The reference implementation adds it to blue, green and red.
        return (_to_float(high) + noise[..., ::-1]).astype(np.float32)
    assert protocol.quality is not None
    return _to_float(jpeg_compress(np.ascontiguousarray(high), protocol.quality))


def _read(path: Path, protocol: Protocol) -> np.ndarray:
    """An image as uint8 (H, W, C), without alpha. Colour becomes gray by the luma that the
    reference implementation takes: of video range for JPEG, of full range for denoising."""
    pixels = to_integers(read_image(path).pixels, 8)
    colors = pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., :1]
    if colors.shape[2] == protocol.channels:
        return colors
    if protocol.channels == 3:
        return colors.repeat(3, axis=2)
    gray = rgb_to_y(colors) if protocol.task == "jpeg" else rgb_to_gray(colors)
    return gray.round().astype(np.uint8)[..., None]


def paper_restorer(
    model: SwinIR, device: torch.device | str, dtype: torch.dtype, ensemble: bool = False
) -> Restorer:
    """Runs ``model`` as the paper's evaluation does, or with its x8 self-ensemble."""
    padding = SymmetricPadding(model)
    return Restorer(padding, device, dtype, ensemble)


def score_image(
    restorer: Restorer, image: ImagePair, protocol: Protocol, progress: Progress | None = None
) -> ImageScores:
    """Restore one image and score it. Raises ``ImageError`` and what ``restorer`` raises."""
    low, high = read_pair(image, protocol)
    batch = torch.from_numpy(low)[None]
    tiles = restorer.plan(*low.shape[:2]).tile_count
    output = _to_levels(restorer(batch, progress=progress)[0].numpy())
    untouched = _to_levels(low)
    if protocol.enlarges:
        untouched = bicubic_resize(untouched, protocol.scale)
    return ImageScores(
        image.name, score(output, high, protocol), score(untouched, high, protocol), tiles
    )


def score(image: np.ndarray, reference: np.ndarray, protocol: Protocol) -> dict[str, float]:
    """The scores of ``protocol.metrics``; both images uint8 (H, W, C)."""
    of = {"PSNR": metrics.psnr, "SSIM": metrics.ssim, "PSNR-B": metrics.psnr_b}
    return {
        name: of[name.removesuffix("-Y")](image, reference, protocol.border, protocol.y_channel)
        for name in protocol.metrics
    }


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over images of every score; of PSNRs none counts more than ``MOST_DECIBELS``."""
    most = metrics.MOST_DECIBELS
    return {name: sum(min(each[name], most) for each in scores) / len(scores) for name in scores[0]}


def _to_float(levels: np.ndarray) -> np.ndarray:
    return levels.astype(np.float32) / 255


def _to_levels(pixels: np.ndarray) -> np.ndarray:
    """0..1 to uint8, clipped and rounded as the reference implementation does it."""
    return (pixels.clip(0, 1) * 255).round().astype(np.uint8)
