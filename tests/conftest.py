"""What several modules of tests take."""

from __future__ import annotations

import pytest
from torch import Tensor

from swinir_core import Restorer
from tests.support.reference import (
    CONFIG,
    GRAY,
    SMALL,
    network,
    official_state_dict,
    reference_network,
)


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return official_state_dict(reference_network(CONFIG), buffers=False)


@pytest.fixture
def color() -> Restorer:
    return Restorer(network(SMALL))


@pytest.fixture
def gray() -> Restorer:
    return Restorer(network(GRAY))
