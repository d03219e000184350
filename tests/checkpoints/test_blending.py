"""Two models mixed into one: weights, what must agree, and the warning about strangers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from swinir_core import (
    Checkpoint,
    CheckpointError,
    Restorer,
    SwinIR,
    SwinIRConfig,
    read_checkpoint,
    write_checkpoint,
)
from swinir_core.checkpoints.blending import blend, blend_warning
from swinir_core.checkpoints.models import build_model, find_model
from swinir_core.degradation.samples import degraded, inputs_of_tasks, read_sample
from swinir_core.images.metrics import psnr
from swinir_core.network.config import DIV2K_MEAN
from tests.support.reference import GRAY, NARROW, SMALL
from tests.support.relabelled import relabelled

FLAT = replace(SMALL, scale=1, upsampler="none", task="color_denoise")


def checkpoint(
    config: SwinIRConfig = SMALL, seed: int = 0, dtype: Any = torch.float32
) -> Checkpoint:
    generator = torch.Generator().manual_seed(seed)
    shapes = SwinIR(config, device="meta").state_dict()
    weights = {k: torch.randn(w.shape, generator=generator).to(dtype) for k, w in shapes.items()}
    return Checkpoint(config, weights, {"seed": str(seed)}, name=f"model{seed}")


def bundled(name: str) -> Checkpoint:
    return read_checkpoint(find_model(name))


@pytest.mark.parametrize("amount", [0, 0.25, 0.5, 0.7, 1])
@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ((torch.float32, torch.float32), torch.float32),
        ((torch.float16, torch.float16), torch.float16),
        ((torch.bfloat16, torch.float32), torch.float32),
        ((torch.float64, torch.float16), torch.float64),
    ],
)
def test_weights_are_mixed_and_the_ends_exact(
    amount: float, types: tuple[torch.dtype, torch.dtype], expected: torch.dtype
) -> None:
    a, b = (checkpoint(seed=seed, dtype=dtype) for seed, dtype in enumerate(types))
    copies = [{k: w.clone() for k, w in model.state_dict.items()} for model in (a, b)]

    blended = blend(a, b, amount)

    bound = 0 if amount in (0, 1) else 4 * torch.finfo(expected).eps
    for key, weight in blended.state_dict.items():
        assert weight.dtype == expected
        ends = a.state_dict[key].double(), b.state_dict[key].double()
        error = (weight.double() - (1 - amount) * ends[0] - amount * ends[1]).abs().max()
        assert error <= bound, key
    for model, copy in zip((a, b), copies, strict=True):
        assert all(torch.equal(model.state_dict[key], weight) for key, weight in copy.items())
    own = {weight.data_ptr() for weight in blended.state_dict.values()}
    assert own.isdisjoint(w.data_ptr() for m in (a, b) for w in m.state_dict.values())


def test_a_file_says_what_was_blended(tmp_path: Path) -> None:
    path = tmp_path / "blend.safetensors"
    first = blend(checkpoint(), checkpoint(seed=1), 0.3)
    write_checkpoint(path, blend(first, replace(checkpoint(seed=2), name=""), 0.5))

    saved = read_checkpoint(path)

    total = "0.5 (0.7 model0 + 0.3 model1) + 0.5 a lightweight_sr model"
    inner = {"blended": "0.7 model0 + 0.3 model1", "model_a.seed": "0", "model_b.seed": "1"}
    outer = {f"model_a.{name}": text for name, text in inner.items()}
    assert saved.metadata == {"blended": total, **outer, "model_b.seed": "2"}
    assert saved.name == "blend"


@pytest.mark.parametrize(("amount", "task"), [(0.4, "color_denoise"), (0.6, "color_jpeg")])
def test_tasks_may_differ_and_the_nearer_one_is_kept(amount: float, task: str) -> None:
    a, b = (checkpoint(replace(FLAT, task=name)) for name in ("color_denoise", "color_jpeg"))
    assert blend(a, b, amount).config.task == task


ALIKE = {
    "a mean that a file rounded": {"mean": tuple(torch.tensor(DIV2K_MEAN).tolist())},
    "patches of another size": {"img_size": 48},
    "a ratio that gives the same shapes": {"mlp_ratio": 24.5 / 12},
    "features of a module it has not": {"num_feat": 32},
}


@pytest.mark.parametrize("name", ALIKE)
def test_what_changes_nothing_may_differ(name: str) -> None:
    assert blend(checkpoint(), checkpoint(replace(SMALL, **ALIKE[name])), 0.5).state_dict


DIFFERENT: dict[str, tuple[SwinIRConfig, SwinIRConfig, str]] = {
    "scale": (SMALL, replace(SMALL, scale=3), "scale 2 and model_b 3:"),
    "channels": (FLAT, GRAY, "in_channels 3 and model_b 1:"),
    "width": (SMALL, replace(SMALL, embed_dim=16), "embed_dim 12 and model_b 16:"),
    "depth": (SMALL, replace(SMALL, depths=(2, 3)), "depths (2, 2) and model_b (2, 3):"),
    "window": (SMALL, replace(SMALL, window_size=7), "window_size 8 and model_b 7:"),
    "range": (SMALL, replace(SMALL, img_range=255.0), "img_range 1.0 and model_b 255.0:"),
    "mean": (SMALL, replace(SMALL, mean=(0.5,) * 3), "mean (0.4488, 0.4371, 0.404) and model_b (0"),
    "bias": (SMALL, replace(SMALL, qkv_bias=False), "qkv_bias True and model_b False:"),
    "shifts": (SMALL, replace(SMALL, img_size=8), "shifted windows True and model_b False:"),
    "MLP": (SMALL, replace(SMALL, mlp_ratio=3.0), "mlp.fc1.weight' of shape (24, 12) and model_b"),
    "features": (NARROW, replace(NARROW, num_feat=16), "of shape (8, 12, 3, 3) and model_b (16, "),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_difference_is_named(name: str) -> None:
    a, b, words = DIFFERENT[name]
    with pytest.raises(CheckpointError) as caught:
        blend(checkpoint(a), checkpoint(b), 0.5)
    assert words in str(caught.value)
    assert str(caught.value).startswith("model_a has ")


@pytest.mark.parametrize("amount", [-0.1, 1.1, float("nan")])
def test_an_amount_outside_is_refused(amount: float) -> None:
    with pytest.raises(ValueError, match="amount must be 0 to 1"):
        blend(checkpoint(), checkpoint(seed=1), amount)


def warning(a: Checkpoint, b: Checkpoint) -> str:
    config, tasks = a.config, (a.config.task, b.config.task)
    return blend_warning(a, b, inputs_of_tasks(tasks, config.scale, config.in_channels))


@pytest.mark.parametrize("name", ["denoise_color_light", "denoise_gray_light", "upscale_x4_light"])
def test_strangers_are_told_apart_from_relatives(name: str) -> None:
    model = bundled(name)
    assert warning(model, model) == ""
    assert warning(model, relabelled(model)).startswith(
        "The half-way blend restores a sample picture worse than either model: "
    )


def test_weights_that_compute_nothing_finite_are_no_error() -> None:
    model = bundled("denoise_color_light")
    large = {key: weight.float() * 1e30 for key, weight in model.state_dict.items()}
    assert isinstance(warning(model, replace(model, state_dict=large)), str)


def test_the_bundled_blend_repairs_both_damages_best() -> None:
    """What the example says of it."""
    a, b = bundled("denoise_color_light"), bundled("jpeg_color_light")
    low, high = degraded(read_sample("cat")[:96, 40:136], noise=15, jpeg_quality=60)
    scores = [
        psnr(Restorer(build_model(model))(torch.from_numpy(low)[None])[0], torch.from_numpy(high))
        for model in (a, blend(a, b, 0.5), b)
    ]
    assert warning(a, b) == ""
    assert scores[1] > max(scores[0], scores[2]) + 0.1, scores
