"""Images and tiles that are run together, which changes neither results nor memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swinir_core import Restorer, TileSettings, estimate_memory
from swinir_core.network import swinir
from swinir_core.network.swinir import CPU_PIXELS_AT_ONCE
from swinir_core.restoration.peak_memory import PeakMemory
from tests.support.reference import GRAY, SMALL, Recorder, network


def test_images_are_run_together_up_to_the_budget(color: Restorer) -> None:
    for at_once in (1, 2, 4):
        tiles = TileSettings(memory_budget=estimate_memory(SMALL, 16, 16, at_once))
        assert color.plan(16, 16, tiles, batch=4).at_once == at_once
    assert color.plan(16, 16, batch=1000).at_once == CPU_PIXELS_AT_ONCE // 16**2


def test_small_frames_are_run_together() -> None:
    model = Recorder(SMALL)
    Restorer(model)(torch.rand(CPU_PIXELS_AT_ONCE // 20**2 + 1, 20, 20, 3))
    assert model.shapes == [(CPU_PIXELS_AT_ONCE // 20**2, 3, 20, 20), (1, 3, 20, 20)]


def test_channels_are_run_together_by_a_gray_model() -> None:
    model = Recorder(GRAY)
    Restorer(model)(torch.rand(1, 8, 8, 4))
    assert model.shapes == [(3, 1, 8, 8)]


def test_equal_tiles_of_a_frame_are_run_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swinir, "CPU_PIXELS_AT_ONCE", 5 * 32**2)
    model = Recorder(SMALL)
    Restorer(model)(torch.rand(2, 52, 52, 3), TileSettings("tiled", 32, 8))
    # 52 pixels are 32 and 28, eight of them shared.
    sizes = [(32, 32), (32, 28), (28, 32), (28, 28)]
    assert model.shapes == [(1, 3, *size) for size in sizes] * 2

    model.shapes.clear()
    Restorer(model)(torch.rand(2, 56, 56, 3), TileSettings("tiled", 32, 8))
    assert model.shapes == [(4, 3, 32, 32)] * 2


def test_no_more_are_run_together_than_asked_for() -> None:
    model = Recorder(SMALL)
    Restorer(model)(torch.rand(5, 8, 8, 3), TileSettings(at_once=2))
    assert [shape[0] for shape in model.shapes] == [2, 2, 1]


def test_no_more_small_tiles_than_asked_for_are_run_together() -> None:
    model = Recorder(SMALL)
    Restorer(model)(torch.rand(1, 112, 106, 3), TileSettings("tiled", (35, 43), 8, at_once=1))
    # Two of the last would have fewer pixels than one of the first.
    assert model.shapes[0] == (1, 3, 32, 40)
    assert model.shapes[-1] == (1, 3, 24, 26)


def test_tiles_may_be_rectangular() -> None:
    model = Recorder(SMALL)
    Restorer(model)(torch.rand(1, 60, 100, 3), TileSettings("tiled", (32, 64), 8, at_once=1))
    # Three rows and two columns; a window of 8 pixels is the most that tiles differ by.
    assert len(model.shapes) == 6
    assert {shape[2] for shape in model.shapes} == {20, 24, 32}
    assert {shape[3] for shape in model.shapes} == {52, 56}


def test_a_model_that_takes_no_batches_is_run_one_by_one() -> None:
    class Foreign(Recorder):
        def at_once(self, *_: object) -> int:
            return 1

    model = Foreign(SMALL)
    Restorer(model)(torch.rand(3, 8, 8, 3))
    assert model.shapes == [(1, 3, 8, 8)] * 3


@given(
    batch=st.integers(1, 5),
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    channels=st.integers(1, 4),
    in_channels=st.sampled_from([1, 3]),
    at_once=st.integers(1, 8),
    overlap=st.sampled_from([None, 0, 8, 16]),
    mode=st.sampled_from(["auto", "tiled"]),
)
@settings(deadline=None, max_examples=15, derandomize=True)
def test_together_as_one_by_one(
    batch: int,
    height: int,
    width: int,
    channels: int,
    in_channels: int,
    at_once: int,
    overlap: int | None,
    mode: str,
) -> None:
    restore = Restorer(network(SMALL if in_channels == 3 else GRAY))
    images = torch.rand(batch, height, width, channels)
    tiles = TileSettings(mode, 32, overlap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(swinir, "CPU_PIXELS_AT_ONCE", at_once * 32**2)
        together = restore(images, tiles)
        patch.setattr(swinir, "CPU_PIXELS_AT_ONCE", 1)
        one_by_one = torch.cat([restore(image[None], tiles) for image in images])
    assert torch.allclose(together, one_by_one, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["whole", "tiled"])
@pytest.mark.usefixtures("one_thread")  # Or it depends on how threads take turns.
def test_more_frames_take_no_more_memory_beside_the_result(
    color: Restorer, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swinir, "CPU_PIXELS_AT_ONCE", 2 * 48**2)
    tiles = TileSettings(mode, 48, 16)
    growth = []
    for batch in (1, 8) if mode == "whole" else (2, 8):
        images = torch.rand(batch, 48, 80, 3)
        with PeakMemory() as memory:
            color(images, tiles)
        growth.append(memory.peak)  # The result is memory of NumPy's, which is not counted.
    assert growth[0] == growth[1] > 0
