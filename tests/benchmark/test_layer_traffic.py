"""Kernels and bytes of a Swin layer, counted from what PyTorch dispatches."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from swinir_core import PRESETS

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

from benchmarks.speed import layer_traffic
from benchmarks.speed.layer_traffic import CountTraffic, Traffic


def test_views_are_no_kernels_and_what_is_overwritten_is_not_read() -> None:
    x, y = torch.empty(2, 10, 10, device="meta")
    with CountTraffic() as counter:
        z = x.T[:5].select(0, 1) + x.view(-1)[:10]
        y.copy_(x)
        y[0].add_(z)
        (y + y).half()
    assert counter.kinds == {
        "add": Traffic(2, 2 * 40 + 400, 40 + 400),
        "copy_": Traffic(1, 400, 400),
        "add_": Traffic(1, 80, 40),
        "_to_copy": Traffic(1, 400, 200),
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_a_layer_on_one_slice_of_tokens(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two norms with conversions, four products, a copy, attention, GELU and two additions; and the
    bias, looked up and put in order."""
    monkeypatch.setattr(layer_traffic, "SIZE", (64, 64))
    config, features = PRESETS["classical_sr_x4"], 64 * 64 * 180 * dtype.itemsize
    kinds = layer_traffic.count(config, dtype)
    converted = 2 if dtype == torch.bfloat16 else 0
    assert sum(kind.launches for kind in kinds.values()) == 2 + converted + 4 + 1 + 1 + 1 + 2 + 2
    assert kinds["attend_window"].written == features
    assert kinds["gelu"].bytes == 2 * 2 * features
    assert layer_traffic.least(config, dtype).launches == 5
    moved = sum(kind.bytes for kind in kinds.values())
    assert 1.5 < moved / layer_traffic.least(config, dtype).bytes < 2.5
