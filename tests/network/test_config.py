"""Hyper-parameters are checked, and the message has the numbers in it."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from swinir_core import PRESETS, SwinIRConfig
from swinir_core.network.config import DIV2K_MEAN

VALUES: dict[str, Any] = {
    "scale": 2,
    "in_channels": 3,
    "embed_dim": 12,
    "depths": (2, 2),
    "num_heads": (2, 3),
    "window_size": 8,
    "mlp_ratio": 2.0,
    "upsampler": "pixelshuffledirect",
}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "scale 0": ({"scale": 0}, r"scale .* got 0"),
    "scale as text": ({"scale": "2"}, r"scale .* got '2'"),
    "scale as float": ({"scale": 2.0}, r"scale .* got 2\.0"),
    "two channels": ({"in_channels": 2}, "in_channels must be 1 or 3, got 2"),
    "no RSTB": ({"depths": (), "num_heads": ()}, "equally long"),
    "lengths differ": ({"depths": (2,)}, r"\(2,\).*\(2, 3\)"),
    "an empty RSTB": ({"depths": (2, 0)}, r"depths\[1\] .* got 0"),
    "heads do not divide": ({"num_heads": (2, 5)}, "12 is not divisible by num_heads 5"),
    "negative mlp": ({"mlp_ratio": -1.0}, r"mlp_ratio .* got -1\.0"),
    "no hidden channel": ({"mlp_ratio": 0.01}, r"mlp_ratio 0\.01"),
    "NaN range": ({"img_range": float("nan")}, "img_range .* got nan"),
    "flag as number": ({"qkv_bias": 1}, "qkv_bias .* got 1"),
    "upsampler": ({"upsampler": "bilinear"}, "got 'bilinear'"),
    "connection": ({"resi_connection": "2conv"}, "got '2conv'"),
    "narrow bottleneck": (
        {"resi_connection": "3conv", "embed_dim": 3, "num_heads": (1, 1)}, "got 3"
    ),
    "none enlarges": ({"upsampler": "none"}, "scale 2"),
    "pixelshuffle x5": ({"upsampler": "pixelshuffle", "scale": 5}, "not 5"),
    "nearest x3": ({"upsampler": "nearest+conv", "scale": 3}, "not 3"),
    "mean": ({"mean": (0.5,)}, "1 values for 3 channels"),
    "mean as text": ({"mean": (0.5, "a", 0.5)}, "got .*'a'"),
    "depths as number": ({"depths": 2}, "depths must be a list, got 2"),
    "channels as text": ({"in_channels": "3"}, "in_channels .* got '3'"),
    "patch below window": ({"img_size": 7}, "img_size 7 .* window_size 8"),
    "task": ({"task": "color_denoise"}, "'color_denoise' does not fit"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_value(name: str) -> None:
    values, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        SwinIRConfig(**VALUES | values)


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_through_json(name: str) -> None:
    config = PRESETS[name]
    assert SwinIRConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert name.startswith(config.task)


def test_a_jpeg_model_with_another_window_says_so_itself() -> None:
    values = VALUES | {"upsampler": "none", "scale": 1}
    assert SwinIRConfig(**values).task == "color_denoise"
    assert SwinIRConfig(**values, task="color_jpeg").task == "color_jpeg"


def test_it_is_frozen_and_lists_become_tuples() -> None:
    config = SwinIRConfig(**{**VALUES, "depths": [2, 2]})
    assert config.depths == (2, 2)
    with pytest.raises(FrozenInstanceError):
        config.scale = 3  # pyright: ignore


@pytest.mark.parametrize(
    ("preset", "changes", "derived"),
    [
        ("classical_sr_x4", {"upsampler": "nearest+conv"}, {"task": "real_sr"}),
        ("color_denoise", {"in_channels": 1}, {"task": "gray_denoise", "mean": (0.0,)}),
        ("gray_jpeg", {"in_channels": 3}, {"task": "color_jpeg", "mean": DIV2K_MEAN}),
        ("color_denoise", {"mean": (0.5,) * 3}, {"mean": (0.5,) * 3}),
    ],
)
def test_what_is_derived_follows_a_copy(
    preset: str, changes: dict[str, Any], derived: dict[str, Any]
) -> None:
    config = replace(SwinIRConfig.from_dict(PRESETS[preset].to_dict()), **changes)
    assert {name: getattr(config, name) for name in derived} == derived
    assert config == replace(PRESETS[preset], **changes)
