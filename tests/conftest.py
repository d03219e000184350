"""What several modules of tests take."""

from __future__ import annotations

import pytest
from torch import Tensor

from swinir_core import Restorer, SwinIRConfig
from tests.reference import GRAY, SMALL, network, official_state_dict, reference_network

CONFIG = SwinIRConfig(
    scale=2,
    in_channels=3,
    embed_dim=12,
    depths=(2, 1),
    num_heads=(2, 3),
    window_size=8,
    mlp_ratio=2.0,
    upsampler="pixelshuffledirect",
    img_size=16,
)
"""That of ``weights``."""


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return official_state_dict(reference_network(CONFIG), buffers=False)


@pytest.fixture
def color() -> Restorer:
    return Restorer(network(SMALL))


@pytest.fixture
def gray() -> Restorer:
    return Restorer(network(GRAY))
