"""The x8 self-ensemble against its definition, and run by a ``Restorer``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from swinir_core import Cancelled, Restorer, SwinIR, SwinIRConfig
from swinir_core.network.memory import Parts
from swinir_core.restoration.image_model import Ensemble
from swinir_core.restoration.peak_memory import PeakMemory
from tests.support.models import PretendModel

X2 = SwinIRConfig(
    scale=2,
    in_channels=3,
    embed_dim=12,
    depths=(2, 2),
    num_heads=(2, 2),
    window_size=4,
    mlp_ratio=2.0,
    upsampler="pixelshuffledirect",
)
GRAY = replace(X2, scale=1, in_channels=1, upsampler="none", mean=None, task="")
CPU = torch.device("cpu")
SIZES = [(9, 14), (8, 8), (5, 1)]


def network(config: SwinIRConfig) -> SwinIR:
    torch.manual_seed(0)
    return SwinIR(config).eval().requires_grad_(False)


def turn(image: Tensor, quarters: int, mirror: bool) -> Tensor:
    """(..., H, W) turned by quarters, then mirrored left to right."""
    turned = torch.rot90(image, quarters, (-2, -1))
    return turned.flip(-1) if mirror else turned


def turn_back(image: Tensor, quarters: int, mirror: bool) -> Tensor:
    return torch.rot90(image.flip(-1) if mirror else image, -quarters, (-2, -1))


TURNS = [(quarters, mirror) for quarters in range(4) for mirror in (False, True)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("config", [X2, GRAY], ids=["x2", "gray"])
def test_is_the_mean_over_all_turns(config: SwinIRConfig, size: tuple[int, int]) -> None:
    model = network(config)
    x = torch.rand(2, config.in_channels, *size)
    turned = [turn_back(model(turn(x, *how)), *how) for how in TURNS]
    expected = torch.stack(turned).mean(0)
    assert torch.allclose(Ensemble(model)(x), expected, atol=1e-6)
    assert not torch.allclose(model(x), expected, atol=1e-4)


@pytest.mark.parametrize("how", TURNS)
def test_a_turned_image_gives_the_turned_result(how: tuple[int, bool]) -> None:
    ensemble = Ensemble(network(X2))
    x = torch.rand(1, 3, 9, 14)
    assert torch.allclose(ensemble(turn(x, *how)), turn(ensemble(x), *how), atol=1e-6)


def test_the_input_stays_as_it_is() -> None:
    x = torch.rand(1, 1, 8, 8)
    before = x.clone()
    Ensemble(network(GRAY))(x)
    assert torch.equal(x, before)


def test_half_precision_is_added_up_in_float32() -> None:
    model = SwinIR(X2, dtype=torch.bfloat16).eval().requires_grad_(False)
    model.load_state_dict(network(X2).state_dict())
    x = torch.rand(1, 3, 8, 12).bfloat16()
    result = Ensemble(model)(x)
    turned = [turn_back(model(turn(x, *how)), *how).float() for how in TURNS]
    assert result.dtype == torch.float32
    assert torch.allclose(result, torch.stack(turned).mean(0), atol=1e-6)


def test_runs_in_a_restorer() -> None:
    ensemble = Ensemble(network(X2))
    images = torch.rand(2, 9, 14, 3)
    expected = ensemble(images.movedim(-1, 1)).clamp(0, 1).movedim(1, -1)
    result = Restorer(ensemble, "cpu", torch.float32)(images)
    assert torch.allclose(result, expected, atol=1e-6)


def test_progress_passes_every_layer_of_every_turn() -> None:
    model = network(X2)
    done = []
    image = torch.rand(1, 20, 30, 3)
    Restorer(Ensemble(model), "cpu", torch.float32)(image, progress=lambda *x: done.append(x))
    assert {total for _, total in done} == {600}
    pixels = np.array([0, *(pixels for pixels, _ in done)])
    assert len(done) > 8 * len(model.stages)
    assert pixels[-1] == 600
    assert np.diff(pixels).min() >= 0
    assert np.diff(pixels).max() <= 600 / 8 / 4


def test_can_be_cancelled_within_a_turn_and_leaves_nothing_behind() -> None:
    model = network(X2)
    asked = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) == 7

    with pytest.raises(Cancelled):
        Restorer(Ensemble(model), "cpu", torch.float32)(torch.rand(1, 8, 8, 3), cancelled=cancelled)
    assert len(asked) == 7


def test_memory_of_any_model() -> None:
    class Doubling(PretendModel):
        def estimate_memory(
            self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
        ) -> int:
            return 100 * height + width

    ensemble = Ensemble(Doubling(scale=2))
    x = torch.rand(1, 3, 5, 7)
    assert torch.allclose(ensemble(x), Doubling(2)(x))
    # The larger of the two ways to lie, the turned input and the sum.
    expected = 700 + 5 + 3 * 35 * (2 + 4 * 4)
    assert ensemble.estimate_memory(5, 7, torch.float16, CPU) == expected
    assert ensemble.estimate_memory(7, 5, torch.float16, CPU) == expected


@pytest.mark.parametrize(("height", "width"), [(24, 100), (100, 24)])
def test_it_takes_the_memory_of_one_run_and_the_sum(height: int, width: int) -> None:
    model = network(X2)
    x = torch.rand(1, 3, height, width)
    with torch.inference_mode(), PeakMemory() as memory:
        Ensemble(model)(x)
    ways = [(height, width), (width, height)]
    own = max(model.estimate_memory(h, w, torch.float32, CPU) for h, w in ways)
    turned_and_sum = Ensemble(model).estimate_memory(height, width, torch.float32, CPU) - own
    alive = max(Parts.of(X2, h, w, 1, torch.float32, CPU).alive for h, w in ways)
    assert memory.peak == pytest.approx(alive + turned_and_sum, rel=0.15)
