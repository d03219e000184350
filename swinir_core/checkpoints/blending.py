"""Two models mixed into one: every weight between that of the one and that of the other."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from ..errors import CheckpointError
from ..images.metrics import psnr
from ..network.swinir import SwinIR
from ..text import shown
from .checkpoint import Checkpoint
from .models import build_model

BLENDED = "blended"
"""Metadata of a blend: its sum. That of the models follows as model_a.NAME and model_b.NAME."""

_MUST_AGREE = (
    *("scale", "in_channels", "embed_dim", "depths", "num_heads", "window_size", "upsampler"),
    *("start_unshuffle", "resi_connection", "qkv_bias", "patch_norm", "ape", "img_range"),
)
_RULE = "only models with equal shapes of weights, window, range and mean blend"
_WORSE = 0.1
"""Decibels from which a picture counts as worse; in so small a picture chance decides on fewer."""


def blend(model_a: Checkpoint, model_b: Checkpoint, amount: float) -> Checkpoint:
    """Mix the weights of two models linearly, leaving both as they are.

    Args:
        model_a: weights on any device.
        model_b: weights of the same names and shapes, in a network with the same window, range and
            mean; the task may differ.
        amount: 0 to 1: 0 gives the weights of ``model_a`` and 1 those of ``model_b``, exactly.

    Returns:
        New weights on the CPU, computed in float32 at least, in the wider of the two types; with
        the configuration of the nearer model, and metadata that says what was blended.

    Raises:
        CheckpointError: the models do not fit each other; the sentence names what differs.
        ValueError: another amount.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount must be 0 to 1, got {amount}.")
    _check_fit(model_a, model_b)
    weights = {
        key: _mix(weight, model_b.state_dict[key], amount)
        for key, weight in model_a.state_dict.items()
    }
    total = f"{1 - amount:g} {_name(model_a)} + {amount:g} {_name(model_b)}"
    metadata = {BLENDED: total}
    for side, model in (("model_a", model_a), ("model_b", model_b)):
        metadata |= {f"{side}.{name}": text for name, text in model.metadata.items()}
    nearer = model_a if amount <= 0.5 else model_b
    return Checkpoint(nearer.config, weights, metadata, name=f"({total})")


def blend_warning(
    model_a: Checkpoint, model_b: Checkpoint, pairs: Iterable[tuple[np.ndarray, np.ndarray]]
) -> str:
    """Try the half-way blend on pictures; a sentence where it is worse than both, else empty.

    model_a, model_b: models that ``blend`` takes.
    pairs: inputs (h, w, C) and their perfect restorations (s*h, s*w, C), floats in 0..1, of the
    scale and channels of the models.
    """
    models = [build_model(model) for model in (model_a, model_b, blend(model_a, model_b, 0.5))]
    for low, high in pairs:
        a, b, half = (_decibels(model, low, high) for model in models)
        if half < min(a, b) - _WORSE:
            return (
                f"The half-way blend restores a sample picture worse than either model: "
                f"{half:.1f} dB, model_a {a:.1f} dB, model_b {b:.1f} dB. Models blend where one "
                "was trained from the other, or both from a third."
            )
    return ""


def _check_fit(model_a: Checkpoint, model_b: Checkpoint) -> None:
    """Raise ``CheckpointError`` at the first difference that two models must not have."""
    facts_a, facts_b = _facts(model_a), _facts(model_b)
    for name in facts_a | facts_b:
        a, b = facts_a.get(name), facts_b.get(name)
        if a != b:
            raise CheckpointError(f"model_a has {name} {a} and model_b {b}: {_RULE}.")


def _facts(model: Checkpoint) -> dict[str, object]:
    """What decides on the use of weights, by names for people; their shapes come last."""
    config = model.config
    assert config.mean is not None
    return {
        **{name: getattr(config, name) for name in _MUST_AGREE},
        # Without the last bits, which a file that holds the mean in float32 rounds.
        "mean": tuple(round(value, 6) for value in config.mean),
        "shifted windows": config.img_size > config.window_size,
        **{f"{key!r} of shape": tuple(w.shape) for key, w in model.state_dict.items()},
    }


def _mix(a: Tensor, b: Tensor, amount: float) -> Tensor:
    dtype = torch.promote_types(a.dtype, b.dtype)
    exact = torch.promote_types(dtype, torch.float32)
    # Of a lerp both ends are exact.
    return torch.lerp(a.to("cpu", exact), b.to("cpu", exact), amount).to(dtype)


def _name(model: Checkpoint) -> str:
    return shown(model.name) or f"a {model.config.task} model"


def _decibels(model: SwinIR, low: np.ndarray, high: np.ndarray) -> float:
    """PSNR of what ``model`` makes of ``low``, whatever it makes."""
    restored = model(torch.from_numpy(low).movedim(-1, 0)[None])[0].movedim(0, -1)
    return psnr(restored.nan_to_num().clamp(0, 1), high, border=model.scale)
