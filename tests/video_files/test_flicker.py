"""Flicker that is damped where nothing moves, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from swinir_core.degradation.noise_and_jpeg import add_gaussian_noise
from swinir_core.degradation.samples import read_sample
from swinir_core.images.resize import enlarge
from swinir_core.video_files.flicker import Steadier

FRAMES = 6
COFFEE, CAT = (torch.from_numpy(read_sample(name)[40:136, :128]) for name in ("coffee", "cat"))


def with_disc(number: int, contrast: float = 0.0) -> Tensor:
    """A disc that moves by two pixels a frame: a part of another picture, or a little brighter."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    inside = ((y - 40) ** 2 + (x - 30 - 2 * number) ** 2 < 20**2)[..., None]
    return torch.where(inside, (COFFEE + contrast) if contrast else CAT.roll(2 * number, 1), COFFEE)


CLIPS: dict[str, Callable[[int], Tensor]] = {
    "nothing moves": lambda number: COFFEE,
    "a disc": with_disc,
    "a faint disc": lambda number: with_disc(number, 0.06),
    "everything": lambda number: COFFEE.roll(number, 1),
    "another scene": lambda number: (COFFEE, CAT)[number // 3],
    "a fade": lambda number: COFFEE * (1 - number / 40),
}


@pytest.mark.parametrize("noise", [2, 10])
@pytest.mark.parametrize("name", CLIPS)
def test_still_parts_flicker_less_and_what_moves_is_as_it_was(name: str, noise: float) -> None:
    clean = torch.stack([CLIPS[name](number) for number in range(FRAMES)])
    frames = [
        torch.from_numpy(add_gaussian_noise(frame.numpy(), noise, np.random.default_rng(number)))
        for number, frame in enumerate(clean)
    ]
    results = torch.stack([enlarge(frame, 2) for frame in frames])
    truth = torch.stack([enlarge(frame, 2) for frame in clean])
    steadier = Steadier()

    steady = torch.stack([steadier.add(*pair) for pair in zip(frames, results, strict=True)])

    moving = (truth[1:] - truth[:-1]).abs().amax(-1) > 0.004
    still = ~(torch.nn.functional.max_pool2d(moving.float(), 17, 1, 8) > 0)
    assert torch.equal(steady[0], results[0])
    if still.float().mean() > 0.2:  # Fewer are those that are black in a fade.
        before, after = ((part[1:] - part[:-1]).abs()[still].mean() for part in (results, steady))
        assert after < before * 0.6
    if moving.any():
        before, after = (error(part, truth, moving) for part in (results, steady))
        assert after - before < 0.1


def error(results: Tensor, truth: Tensor, where: Tensor) -> float:
    """Decibels of the error of all but the first frame where ``where`` is true."""
    return float(10 * (results - truth)[1:].square()[where].mean().log10())


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (8, 8)])
def test_small_frames(size: tuple[int, int]) -> None:
    frame, steadier = torch.rand(*size, 3), Steadier()
    for _ in range(2):
        assert torch.equal(steadier.add(frame, frame), frame)
