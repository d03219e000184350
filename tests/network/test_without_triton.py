"""Without a working Triton the network takes its plain path, and at most one line says so."""

from __future__ import annotations

import importlib.abc
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from swinir_core import Restorer
from swinir_core.network.attention import triton_available as kernels
from tests.support.determinism_cases import SMALL, network, photograph
from tests.support.pretend_device import GIB, PretendDevice, moved


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> PretendDevice:
    """A pretended NVIDIA card, or AMD's under ROCm, that a kernel could be for."""
    if getattr(request, "param", "cuda") == "rocm":
        monkeypatch.setattr(torch.version, "hip", "6.4.43482")
        monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (11, 0))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (GIB, GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    monkeypatch.setattr(kernels, "_reasons_given", set())
    monkeypatch.setattr(kernels, "_works", {})
    return PretendDevice("cuda")


class Broken(importlib.abc.MetaPathFinder):
    """Found, but its import fails, as where a driver is missing."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> None:
        if name == "triton":
            raise ImportError("DLL load failed while importing libtriton")


def forget_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = "swinir_core.network.attention.triton_available."
    for name in list(sys.modules):
        if name.partition(".")[0] == "triton" or name.startswith(ours):
            monkeypatch.delitem(sys.modules, name)
    for name in ("self_check", "window_attention"):
        monkeypatch.delattr(kernels, name, raising=False)


@pytest.mark.parametrize("card", ["cuda", "rocm"], indirect=True)
@pytest.mark.parametrize("state", ["missing", "broken", "no driver", "no compiler"])
def test_without_a_working_triton_the_plain_path_is_taken(
    state: str,
    card: PretendDevice,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    if state in ("missing", "broken"):
        forget_triton(monkeypatch)
    if state == "missing":
        monkeypatch.setitem(sys.modules, "triton", None)
    elif state == "broken":
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    elif not kernels.importlib.util.find_spec("triton"):
        pytest.skip("Triton is not installed")
    elif state == "no compiler":
        from swinir_core.network.attention import triton_check as self_check

        def fail(*_: object) -> None:
            raise RuntimeError("Failed to find C compiler.")

        monkeypatch.setattr(self_check, "check", fail)

    image = photograph(20, 27)[None]
    for config in (SMALL, replace(SMALL, num_heads=(1, 3))):
        model = network(config)
        expected = Restorer(model)(image)
        with card:
            for dtype in (torch.float32, torch.float16):
                result = Restorer(moved(model, card.device, dtype))(image)
                assert (result - expected).abs().max() <= (1e-5 if dtype.itemsize == 4 else 0.1)
    ours = [record for record in caplog.records if record.name.startswith("swinir_core")]
    assert len(ours) == (state != "missing")
    assert all(record.levelno <= logging.INFO for record in ours)
