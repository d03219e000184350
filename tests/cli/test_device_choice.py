"""Choice of device and precision, and when two names are one device."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from swinir_core.cli.options import UsageError
from swinir_core.cli.processes import Processes, find_device
from swinir_core.cli.restore import find_precision
from tests.support.pretend_device import DEVICES
from tests.support.stub_host import nodes_without_host


@pytest.mark.parametrize(
    ("cuda", "xpu", "mps", "choices"),
    [
        (0, 0, False, {"auto": "cpu", "cpu": "cpu", "mps": None, "cuda": None, "xpu": None}),
        (0, 0, True, {"auto": "mps", "mps": "mps", "cpu": "cpu", "cuda:0": None}),
        (0, 2, False, {"auto": "xpu:0", "xpu": "xpu:0", "xpu:1": "xpu:1", "xpu:2": None}),
        (2, 1, False, {"auto": "cuda:0", "cuda": "cuda:0", "cuda:1": "cuda:1", "xpu": "xpu:0"}),
    ],
    ids=["CPU", "Apple", "Intel", "NVIDIA"],
)
def test_which_device_the_command_takes(
    cuda: int,
    xpu: int,
    mps: bool,
    choices: dict[str, str | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: xpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    for name, device in choices.items():
        if device is None:
            with pytest.raises(UsageError, match=r"this machine has only .*cpu"):
                find_device(name)
        else:
            assert find_device(name) == device
            # Half precision by itself only where it is known to be fast.
            if not device.startswith("cuda"):
                assert find_precision("auto", device) == torch.float32
    if xpu > 1:
        assert [Processes(i, 3, i).device("auto") for i in range(3)] == ["xpu:0", "xpu:1", "xpu:0"]


def test_the_nodes_know_a_device_with_or_without_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with nodes_without_host(monkeypatch) as nodes:
        upscale_model = importlib.import_module(f"{nodes.__name__}.running.upscale_model")
        is_own = upscale_model.SwinIRUpscaleModel._is_own
        fastest = nodes.host.fastest_precision
        management: Any = nodes.host.comfy.model_management
    own = ("mps", "mps", "cuda:1", "cuda:1", "xpu:0", "privateuseone:0", "cpu")
    asked = ("mps:0", "mps", "cuda", "cuda:0", "cpu", "privateuseone", "cpu")
    found = [
        is_own(
            SimpleNamespace(patcher=SimpleNamespace(load_device=torch.device(a))), torch.device(b)
        )
        for a, b in zip(own, asked, strict=True)
    ]
    assert found == [True, True, True, False, False, True, True]
    finer = (torch.float16, torch.bfloat16)
    wider = finer[::-1]
    for bf16, fp16, half_types, expected in (
        (True, True, wider, torch.bfloat16),
        (True, True, finer, torch.float16),
        (False, True, wider, torch.float16),
        (True, False, finer, torch.bfloat16),
        (False, True, (torch.bfloat16,), torch.float32),
        (True, True, (), torch.float32),
        (False, False, wider, torch.float32),
    ):
        management.should_use_bf16.return_value = bf16
        management.should_use_fp16.return_value = fp16
        for kind in DEVICES:
            assert fastest(torch.device(kind), half_types) == expected
        assert fastest(torch.device("cpu"), half_types) == torch.float32


PRECISIONS: dict[str, tuple[str, tuple[torch.dtype, ...], torch.dtype | str]] = {
    "auto": ("auto", (), torch.float32),
    "allowed": ("bfloat16", (torch.bfloat16,), torch.bfloat16),
    "none allowed": ("float16", (), "run in float32; choose auto"),
    "another allowed": ("float16", (torch.bfloat16,), "run in float32 or bfloat16; choose auto"),
    "unknown": ("float64", (), "must be one of auto, float32, bfloat16, float16"),
}


@pytest.mark.parametrize(("name", "half_types", "expected"), PRECISIONS.values(), ids=PRECISIONS)
def test_precisions_a_model_does_not_take_are_refused(
    name: str,
    half_types: tuple[torch.dtype, ...],
    expected: torch.dtype | str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with nodes_without_host(monkeypatch) as nodes:
        find = importlib.import_module(f"{nodes.__name__}.running.restoration").find_precision
    model, device = SimpleNamespace(half_types=lambda _: half_types), torch.device("cpu")
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=f"precision.*{expected}"):
            find(name, model, device)
    else:
        assert find(name, model, device) == expected
