"""The bundled model for what is wrong with a picture, and how much of its result to take.

Strengths are those at which the mixture of a model's result with its input comes closest to the
original, on photographs halved in size (benchmarks/exactness/look_at_image.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..images.looking import Look
from .models import ModelInfo

CLEAN_SIGMA, CLEAN_QUALITY = 4.5, 93
"""Noise up to which, and JPEG quality from which on, a picture is left alone."""

BLURRED = 1.2
"""Standard deviation of blur from which on enlarging by an exact model gains nothing."""

_STRONGEST = 50
"""Sigma up to which the denoisers were trained."""

_COLOR_PARTS = {2: 0.1, 5: 0.45, 8: 0.7, 10: 0.8, 20: 1.0}
_GRAY_PARTS = {2: 0.05, 5: 0.3, 8: 0.55, 10: 0.7, 20: 1.0}
_JPEG_PARTS = {35: 1.0, 60: 0.75, 75: 0.6, 85: 0.4, 95: 0.15}
"""Strengths by sigma and by quality: models take away too much where damage is lighter than what
they were trained for, sigma of 15 and more and quality of 40 and less."""

_BOTH_SIGMA, _BOTH_QUALITY = 8.0, 85


@dataclass(frozen=True)
class Advice:
    """Model and strength for a picture."""

    found: str
    """The damage, as a sentence."""

    model: ModelInfo
    strength: float
    """Share of the model's result, 0 to 1; the rest is the input."""

    clean: bool
    """True where nothing is wrong that a model repairs."""

    missing: bool = False
    """True where no model is for that, and ``model`` is only the first."""

    def sentence(self, name: str) -> str:
        """The damage and the advice, for people who know the model by ``name``."""
        if self.missing:
            return f"{self.found} No model here is made for that."
        use = "If you want it larger, use" if self.clean else "Use"
        part = f" with strength {self.strength:g}" if self.strength < 1 else ""
        return f"{self.found} {use} {name}{part}."


def advise(look: Look, models: Sequence[ModelInfo]) -> Advice:
    """Choose the model for the damage of a picture, of ``models`` only, which must not be empty.

    Where none of them is for it, the advice has the first and says so.
    """
    tasks, scale, found, strength, clean = _wanted(look)
    for task in tasks:
        for model in models:
            if model.task == task and (scale is None or model.scale == scale):
                return Advice(found, model, strength, clean)
    return Advice(found, models[0], strength, clean, missing=True)


def _wanted(look: Look) -> tuple[tuple[str, ...], int | None, str, float, bool]:
    """Tasks, the one wanted most first, the scale if it matters, what is wrong as a sentence, the
    strength, and whether nothing is wrong."""
    noisy = look.sigma >= CLEAN_SIGMA
    packed = look.jpeg_quality < CLEAN_QUALITY
    noise, jpeg = f"noise of sigma {look.sigma:.0f}", f"JPEG of quality {look.jpeg_quality}"
    denoising = ("gray_denoise", "color_denoise") if look.gray else ("color_denoise",)
    if packed and look.sigma >= _BOTH_SIGMA and look.jpeg_quality < _BOTH_QUALITY:
        return ("real_sr",), None, f"There are {noise} and {jpeg}.", 1.0, False
    if look.blur >= BLURRED:
        worse = [noise] * noisy + [jpeg] * packed
        also = f", with {' and '.join(worse)}" if worse else ""
        return ("real_sr",), None, f"Blurred by {look.blur:.1f} pixels{also}.", 1.0, False
    if noisy and not (packed and look.sigma < _BOTH_SIGMA):
        beyond = ", more than the models know" if look.sigma > 1.2 * _STRONGEST else ""
        also = f" and {jpeg}" if packed else ""
        strength = _part(_GRAY_PARTS if look.gray else _COLOR_PARTS, look.sigma)
        return denoising, None, f"There is {noise}{also}{beyond}.", strength, False
    if packed:
        strength = _part(_JPEG_PARTS, look.jpeg_quality)
        tasks = ("gray_jpeg", "color_jpeg") if look.gray else ("color_jpeg",)
        return tasks, None, f"It was saved as {jpeg}.", strength, False
    return ("lightweight_sr", "classical_sr"), 2, "It looks clean.", 1.0, True


def _part(parts: dict[int, float], level: float) -> float:
    """The strength between those of ``parts``, a multiple of 0.05 as in the widget."""
    return round(float(np.interp(level, list(parts), list(parts.values()))) * 20) / 20
