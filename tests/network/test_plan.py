"""Frames of one size share a plan and its workspace, and nothing is left of them afterwards."""

from __future__ import annotations

import threading
import weakref
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from swinir_core import Cancelled, Restorer, SwinIR, TileSettings
from swinir_core.network import plan as plan_module
from swinir_core.network.plan import WindowPlan
from swinir_core.restoration.image_model import Ensemble
from tests.support import reference
from tests.support.reference import SMALL


@pytest.fixture(scope="module")
def network() -> SwinIR:
    return reference.network(SMALL)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[WindowPlan]:
    """Every plan that is made."""
    plans: list[WindowPlan] = []
    build = WindowPlan.build

    def note(*given: Any) -> WindowPlan:
        plans.append(build(*given))
        return plans[-1]

    monkeypatch.setattr(WindowPlan, "build", note)
    return plans


@pytest.mark.parametrize(
    ("tiles", "plans"),
    [
        (TileSettings(at_once=1), 1),
        (TileSettings(at_once=2), 2),  # For two frames, and for the fifth one.
        (TileSettings("tiled", (32, 64), 16, at_once=1), 1),
    ],
)
def test_frames_of_one_size_share_a_plan(
    network: SwinIR, built: list[WindowPlan], tiles: TileSettings, plans: int
) -> None:
    frames = torch.rand(5, 48, 40, 3)
    expected = [Restorer(network)(frame[None], tiles)[0] for frame in frames]
    built.clear()
    results = Restorer(network)(frames, tiles)
    assert len(built) == plans
    assert torch.allclose(results, torch.stack(expected), atol=1e-6)


def test_a_result_is_that_of_a_new_plan_to_the_byte(network: SwinIR) -> None:
    images = torch.rand(3, 2, 3, 19, 26)
    expected = [network(image) for image in images]
    with network.reusing_plans():
        assert all(torch.equal(network(x), y) for x, y in zip(images, expected, strict=True))


@pytest.mark.parametrize(
    "shape", [(2, 3, 24, 24), (2, 3, 16, 32), (1, 3, 16, 24), (2, 3, 24, 16)], ids=str
)
def test_an_image_of_another_size_gets_a_plan_of_its_own(
    network: SwinIR, built: list[WindowPlan], shape: tuple[int, ...]
) -> None:
    other = torch.rand(shape)
    expected = network(other)
    with network.reusing_plans():
        network(torch.rand(2, 3, 16, 24))
        built.clear()
        assert torch.equal(network(other), expected)
    assert len(built) == 1


def test_so_does_another_type_of_arithmetic(network: SwinIR, built: list[WindowPlan]) -> None:
    x = torch.rand(1, 3, 16, 16)
    expected = network(x)
    with network.reusing_plans():
        with torch.autocast("cpu", torch.bfloat16):
            network(x)
        assert torch.equal(network(x), expected)
    assert len(built) == 3


def test_gradients_do_not_meet_overwritten_numbers(network: SwinIR) -> None:
    x = torch.rand(1, 3, 16, 16)
    (expected,) = torch.autograd.grad(network(y := x.clone().requires_grad_()).sum(), y)
    with network.reusing_plans():
        network(x)
        result = network(y)
        network(x)
        (gradient,) = torch.autograd.grad(result.sum(), y)
    assert torch.equal(gradient, expected)


def test_inference_mode_may_end_between_two_passes(network: SwinIR) -> None:
    x = torch.rand(1, 3, 16, 16)
    expected = network(x)
    with network.reusing_plans():
        with torch.inference_mode():
            network(x)
        assert torch.equal(network(x), expected)


def test_without_a_run_nothing_is_kept(network: SwinIR, built: list[WindowPlan]) -> None:
    for _ in range(2):
        network(torch.rand(1, 3, 16, 16))
    assert len(built) == 2
    assert plan_module._kept.plan is None


def test_nothing_is_left_after_a_run(network: SwinIR) -> None:
    with network.reusing_plans():
        with network.reusing_plans():
            network(torch.rand(1, 3, 16, 16))
        assert plan_module._kept.plan is not None
    assert plan_module._kept.plan is None


def test_a_pass_that_fails_leaves_no_workspace_behind(network: SwinIR) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("out of memory")

    with network.reusing_plans():
        network(torch.rand(1, 3, 16, 16))
        hook = network.stages[-1].register_forward_hook(fail)
        with pytest.raises(MemoryError):
            network(torch.rand(1, 3, 16, 16))
        hook.remove()
        assert plan_module._kept.plan is None


def test_the_old_workspace_is_free_before_a_new_one_is_made(
    network: SwinIR, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = WindowPlan.build
    workspaces: list[weakref.ref[Tensor]] = []

    def note(*given: Any) -> WindowPlan:
        assert all(workspace() is None for workspace in workspaces)
        plan = build(*given)
        assert plan.workspace is not None
        workspaces.append(weakref.ref(plan.workspace))
        return plan

    monkeypatch.setattr(WindowPlan, "build", note)
    with network.reusing_plans():
        for side in (16, 24):
            network(torch.rand(1, 3, side, side))
    assert len(workspaces) == 2


@pytest.mark.parametrize("changes", [{"embed_dim": 24}, {"window_size": 4}], ids=str)
def test_another_network_gets_a_plan_of_its_own(
    network: SwinIR, built: list[WindowPlan], changes: dict[str, int]
) -> None:
    other = reference.network(replace(SMALL, **changes))  # pyright: ignore[reportArgumentType]
    x = torch.rand(1, 3, 16, 16)
    expected = other(x)
    with network.reusing_plans():
        network(x)
        built.clear()
        assert torch.equal(other(x), expected)
    assert len(built) == 1


def test_another_thread_has_plans_of_its_own(network: SwinIR, built: list[WindowPlan]) -> None:
    x = torch.rand(1, 3, 16, 16)

    def run() -> None:
        with torch.no_grad(), network.reusing_plans():
            network(x)
            network(x)

    with network.reusing_plans():
        network(x)
        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        network(x)
    assert len(built) == 2


def test_the_turns_of_the_ensemble_share_plans(network: SwinIR, built: list[WindowPlan]) -> None:
    restorer = Restorer(Ensemble(network), "cpu", torch.float32)
    restorer(torch.rand(2, 16, 24, 3), TileSettings(at_once=1))
    # Four turns upright and four on their side, of each image.
    assert len(built) == 4


def test_a_cancelled_run_leaves_nothing(network: SwinIR) -> None:
    asked: list[None] = []

    def cancelled() -> bool:
        asked.append(None)
        return len(asked) > 10

    with pytest.raises(Cancelled):
        Restorer(network)(torch.rand(3, 16, 16, 3), TileSettings(at_once=1), cancelled=cancelled)
    # Asked five times for an image: between the second and the third.
    assert len(asked) == 11
    assert (plan_module._kept.plan, plan_module._kept.users) == (None, 0)


@pytest.mark.parametrize("rows", [34, 65, 66], ids="{} windows high".format)
def test_the_first_convolution_by_strips_is_that_of_the_whole_to_the_last_bit(rows: int) -> None:
    conv, x = torch.nn.Conv2d(3, 12, 3, padding=1).requires_grad_(False), torch.rand(1, 3, 8, 520)
    x = x.repeat(1, 1, rows, 1) * torch.rand(1, 3, 8 * rows, 1)
    whole = conv(x)
    plan = WindowPlan.build(whole, 8, keeps_graph=False)
    assert torch.equal(plan.convolve(conv, x), plan.to_windows(whole))


PASSES = {
    "lightweight": {},
    "gray": {"upsampler": "none", "scale": 1, "in_channels": 1},
    "window 7": {"upsampler": "none", "scale": 1, "window_size": 7},
    "real, x4": {"upsampler": "nearest+conv", "scale": 4, "resi_connection": "3conv"},
    "unshuffled": {"upsampler": "nearest+conv", "start_unshuffle": 2},
    "classical, x3": {"upsampler": "pixelshuffle", "scale": 3},
    "without a norm of patches": {"patch_norm": False},
}


@pytest.mark.parametrize("name", PASSES)
def test_a_pass_reports_from_nothing_to_the_whole(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_module, "_FIRST_STRIP_PIXELS", 2000)
    monkeypatch.setattr(plan_module, "_CPU_STRIP_PIXELS", 2000)
    config = replace(SMALL, task="", mean=None, **PASSES[name])
    network = SwinIR(config).eval().requires_grad_(False)
    x, parts = torch.rand(1, network.in_channels, 70, 90), [0.0]
    with network.reusing_plans():
        for _ in range(2):
            del parts[1:]
            result = network(x, parts.append)
            assert parts == sorted(parts)
            assert parts[-1] == pytest.approx(1)
            assert max(b - a for a, b in pairwise(parts)) < 0.25
    assert torch.equal(result, network(x))


def test_what_a_report_raises_ends_the_pass_and_is_not_kept(network: SwinIR) -> None:
    x, reported = torch.rand(1, 3, 40, 40), []

    def stop(part: float) -> None:
        reported.append(part)
        if len(reported) == 3:
            raise Cancelled("enough")

    with network.reusing_plans():
        with pytest.raises(Cancelled):
            network(x, stop)
        network(x)
    assert len(reported) == 3
