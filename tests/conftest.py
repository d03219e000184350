"""Fixtures of several modules of tests."""

from __future__ import annotations

import os

# Two processes of pytest whose threads wait for one another are slower than one; what they start
# inherits it. Before torch is imported, which reads it then.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator

import pytest
import torch
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
def one_thread() -> Iterator[None]:
    """One thread of PyTorch, until the test has ended."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def weights() -> dict[str, Tensor]:
    return official_state_dict(reference_network(CONFIG), buffers=False)


@pytest.fixture
def color() -> Restorer:
    return Restorer(network(SMALL))


@pytest.fixture
def gray() -> Restorer:
    return Restorer(network(GRAY))
