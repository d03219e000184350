"""The protocol of the paper's tables for each task.

``docs/evaluation.md`` says how the steps follow the reference implementation
(https://github.com/JingyunLiang/SwinIR, main_test_swinir.py), and what differs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..degradation.recipes import DEGRADATIONS
from ..images.metrics import PSNR_B_LEAST, SSIM_LEAST
from ..network.config import SwinIRConfig

DEFAULT_SIGMA = 25.0
DEFAULT_QUALITY = 10
UNTOUCHED = {"sr": "bicubic", "real_sr": "bicubic", "denoise": "noisy", "jpeg": "JPEG"}
"""Label of the baseline of each task, the scores of the inputs themselves."""


@dataclass(frozen=True)
class Protocol:
    """Task and level of degradation, and the scores that follow from them."""

    task: str
    """A key of ``DEGRADATIONS``."""

    scale: int
    """Output pixels per input pixel along one side."""

    channels: int
    """Of the images that are restored and compared: 1 (gray) or 3 (RGB)."""

    sigma: float | None = None
    """Standard deviation of the noise in levels of 255; ``None`` unless denoising."""

    quality: int | None = None
    """Quality of the JPEG files, 1 to 100; ``None`` for other tasks."""

    @property
    def level(self) -> float | None:
        """Sigma or quality, by which the inputs are made; ``None`` for super-resolution."""
        return self.quality if self.sigma is None else self.sigma

    @property
    def border(self) -> int:
        """Pixels on every side of a result that scores ignore."""
        return self.scale if self.enlarges else 0

    @property
    def least_side(self) -> int:
        """Pixels a good image must have on either side to be scored."""
        return 2 * self.border + (PSNR_B_LEAST if self.task == "jpeg" else SSIM_LEAST)

    @property
    def enlarges(self) -> bool:
        """True for super-resolution, whose scores compare the Y channel only."""
        return self.task in ("sr", "real_sr")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores, PSNR first."""
        if self.enlarges:
            return ("PSNR-Y", "SSIM-Y")
        return ("PSNR", "SSIM", "PSNR-B") if self.task == "jpeg" else ("PSNR", "SSIM")


def short_name(task: str) -> str:
    """Shorten a task of ``SwinIRConfig`` to a key of ``DEGRADATIONS``: gray_jpeg to jpeg."""
    return task if task == "real_sr" else task.rpartition("_")[2]


def find_protocol(
    config: SwinIRConfig,
    task: str | None = None,
    sigma: float | None = None,
    quality: int | None = None,
    gray: bool = False,
) -> Protocol:
    """Choose the protocol for a model.

    Super-resolution takes RGB images for every model; a gray model restores their channels one by
    one. The other tasks take gray images for a gray model.

    Args:
        config: of the model.
        task: a key of ``DEGRADATIONS``; by default the model's own.
        sigma: standard deviation of the noise in levels of 255; by default 25.
        quality: quality of the JPEG files, 1 to 100; by default 10.
        gray: take gray images for a colour model too.

    Raises:
        ValueError: a value that contradicts the model or the task.
    """
    task = task or short_name(config.task)
    if task not in DEGRADATIONS:
        raise ValueError(f"task must be one of {', '.join(DEGRADATIONS)}, got {task!r}")
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
