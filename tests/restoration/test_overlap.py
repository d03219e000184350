"""The overlap of tiles is found from the network, and is enough."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from skimage import data
from torch import Tensor, nn

from swinir_core import PRESETS, Restorer, TileSettings, load_model
from swinir_core.restoration.overlap import TOLERANCE, edge_error, find_overlap, pattern
from tests.support.models import PretendModel
from tests.support.reference import our_network, reference_network

CPU = torch.device("cpu")
SMALL = replace(PRESETS["lightweight_sr_x2"], embed_dim=12, depths=(2, 2), num_heads=(2, 2))


class Blur(PretendModel):
    """The mean of a square; what lies outside the image is black."""

    def __init__(self, radius: int, alignment: int = 8) -> None:
        super().__init__()
        self.radius = radius
        self.alignment = alignment

    def __call__(self, x: Tensor, *_: object) -> Tensor:
        return F.avg_pool2d(x, 2 * self.radius + 1, stride=1, padding=self.radius)


@pytest.mark.parametrize(
    ("radius", "alignment", "overlap"),
    [
        # Up to the radius an edge is felt, and 4 pixels on both sides of the middle are blended.
        (4, 8, 16),
        (5, 8, 24),
        (8, 8, 24),
        (9, 8, 32),
        (16, 8, 40),
        (17, 8, 48),
        # Without windows the unit is about 8 pixels all the same.
        (4, 1, 16),
        (16, 2, 40),
        (10, 7, 28),
        (11, 7, 35),
        (4, 16, 16),
        (13, 16, 48),
        # Never more than 8 windows.
        (40, 8, 64),
        (40, 4, 64),
    ],
)
def test_no_less_than_the_reach_and_no_more(radius: int, alignment: int, overlap: int) -> None:
    assert find_overlap(Blur(radius, alignment), CPU, torch.float32) == overlap


def test_a_cut_is_felt_up_to_the_radius() -> None:
    error = edge_error(Blur(9), pattern(3, 64))
    assert error.shape == (32,)
    assert error[:9].gt(1e-3).all()
    assert error[9:].lt(1e-6).all()
    assert error.diff().max() <= 0


def test_all_four_edges_count() -> None:
    for top, left in ((9, 0), (-9, 0), (0, 9), (0, -9)):

        def shifted(x: Tensor, dy: int = top, dx: int = left) -> Tensor:
            padded = F.pad(x, (9, 9, 9, 9))
            return padded[..., 9 + dy :, 9 + dx :][..., : x.shape[-2], : x.shape[-1]]

        error = edge_error(shifted, pattern(3, 64))
        assert error[8] > 0.5
        assert error[9] == 0


def test_what_is_felt_farther_counts_nearer_too() -> None:
    x = torch.zeros(1, 3, 64, 64)
    x[..., 32, 0] = 1
    error = edge_error(lambda x: F.pad(x, (0, 0, 0, 9))[..., 9:, :], x)
    assert error[:9].eq(1).all()
    assert error[9:].eq(0).all()


def test_the_stronger_the_weights_the_wider() -> None:
    found = []
    for strength in (1, 4):
        model = our_network(SMALL, reference_network(SMALL)).requires_grad_(False)
        for name, parameter in model.named_parameters():
            if ".attn." in name or ".mlp." in name:
                parameter.mul_(strength)
        found.append(find_overlap(model, CPU, torch.float32))
    assert 16 <= found[0] < found[1]


class Rounded(Blur):
    """Of another error at every size, as half precision is."""

    def __call__(self, x: Tensor, *_: object) -> Tensor:
        generator = torch.Generator().manual_seed(x.shape[-1])
        return super().__call__(x) + torch.rand(x.shape, generator=generator) / 255


def test_rounding_of_half_precision_is_not_taken_for_an_edge() -> None:
    assert edge_error(Rounded(9), pattern(3, 96))[-8] > TOLERANCE
    assert find_overlap(Rounded(9), CPU, torch.float32) == find_overlap(Blur(9), CPU, torch.float32)


def test_where_the_pattern_does_not_fit_the_memory() -> None:
    class Full(Blur):
        def __call__(self, x: Tensor, *_: object) -> Tensor:
            if x.shape[-1] > 64:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            return super().__call__(x)

    assert find_overlap(Full(1), CPU, torch.float32) == 32


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="channel"):
        find_overlap(Colours(3, 8), CPU, torch.float32)


class Colours(Blur):
    def __call__(self, x: Tensor, *_: object) -> Tensor:
        return nn.Conv2d(5, 5, 1)(x)


def test_bundled_weights_in_tiles_are_the_whole_image() -> None:
    restorer = Restorer(load_model("upscale_x2_light"))
    image = torch.from_numpy(data.astronaut()[100:148, 170:314]).float()[None] / 255
    tiles = TileSettings("tiled", 96)
    assert len(restorer.plan(48, 144, tiles).tiles) == 2
    difference = restorer(image, tiles) - restorer(image, TileSettings("whole"))
    assert difference.abs().max() <= 0.25 / 255
    assert difference.square().mean() <= 1e-8  # 80 dB
