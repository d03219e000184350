"""Videos through the node, a few frames in memory at a time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

import swinir_core as sc
from swinir_core.restoration.inputs import check_inputs
from swinir_core.restoration.sizing import TargetSize, restore_to_size
from swinir_core.video_files.flicker import Steadier
from tests.host.comfy_host import ComfyHost, Result
from tests.host.conftest import find_home, save, tiny_model
from tests.host.graphs import Node, link, node, ours, tiled
from tests.support.videos import (
    RATE,
    packets_of,
    pictures_of,
    times_of,
    write_video,
)

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore:torch.meshgrid")]

EXACT = {"codec": "h264", "crf": 0, "pixel_format": "yuv444p"}


@pytest.fixture(scope="module")
def model(models: Path) -> sc.SwinIR:
    model = tiny_model()
    save(model, models / "video.safetensors")
    return model


@pytest.fixture
def source(session_host: ComfyHost) -> Path:
    """Where *Load Video* finds ``clip.mp4``."""
    folder = session_host.base / "input"
    folder.mkdir(exist_ok=True)
    return folder / "clip.mp4"


def restoring(video: Node, **inputs: Any) -> dict[str, Node]:
    return {
        "video": video,
        "loader": ours("video.safetensors"),
        "restored": node(
            "SwinIRRestoreVideo",
            upscale_model=link("loader"),
            video=link("video"),
            **inputs,
        ),
        "save": node(
            "SaveVideo",
            video=link("restored"),
            filename_prefix="video/test",
            format="auto",
            codec="auto",
        ),
    }


def loaded(source: Path) -> Node:
    return node("LoadVideo", file=source.name)


def saved(host: ComfyHost, result: Result) -> Path:
    """What *Save Video* has saved."""
    (file,) = result.found("save")["images"]
    return host.base / "output" / file["subfolder"] / file["filename"]


def temporary(host: ComfyHost) -> set[Path]:
    return set((host.base / "temp").glob("swinir-*.mp4"))


def restored_by(model: sc.SwinIR, pictures: np.ndarray) -> np.ndarray:
    return sc.Restorer(model)(torch.from_numpy(pictures) / 255).clamp(0, 1).numpy() * 255


def luma(pictures: np.ndarray) -> np.ndarray:
    """What the default format keeps of every pixel of a small video."""
    return pictures @ np.asarray([0.299, 0.587, 0.114], np.float32)


@pytest.mark.parametrize("size", [(64, 48), (16, 16), (63, 47)])
def test_a_file_is_restored_and_saved_without_a_second_encoding(
    host: ComfyHost, model: sc.SwinIR, source: Path, size: tuple[int, int]
) -> None:
    codec, pixel_format = ("libx264", "yuv444p")
    write_video(source, 37, size, codec, pixel_format, "aac", colorspace=1)
    before = temporary(host)

    result = host.run(restoring(loaded(source), **EXACT))

    (made,), file = temporary(host) - before, saved(host, result)
    expected = restored_by(model, pictures_of(source))
    assert np.abs(pictures_of(file) - expected).max() < 3
    assert times_of(file) == times_of(source)
    assert packets_of(file, "video") == packets_of(made, "video")
    assert packets_of(file, "audio") == packets_of(source, "audio")


def test_defaults_play_everywhere_and_tiles_are_as_set(
    host: ComfyHost, model: sc.SwinIR, source: Path
) -> None:
    write_video(source, 3, (63, 47), "libx264", "yuv444p")
    graph = {**restoring(loaded(source), tile_settings=link("tiles")), "tiles": tiled(32, 8)}

    file = saved(host, host.run(graph))

    with av.open(str(file)) as video:
        stream = video.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert (stream.codec_context.width, stream.codec_context.height) == (126, 94)
        assert stream.average_rate == RATE
    tiles = sc.TileSettings("tiled", (32, 32), overlap=8)
    pictures = torch.from_numpy(pictures_of(source)) / 255
    expected = sc.Restorer(model)(pictures, tiles=tiles).numpy() * 255
    assert np.abs(luma(pictures_of(file)) - luma(expected)).mean() < 3
    assert "3 frames written" in host.new_log()


SIZES = {
    "odd sides": (TargetSize("longer side", 101), "yuv444p", (75, 101)),
    "even sides for the format": (TargetSize("longer side", 101, 2), "yuv420p", (74, 102)),
    "several runs": (TargetSize("factor", 3, 2), "yuv420p", (138, 186)),
    "the model's size": (TargetSize(), "yuv444p", (92, 124)),
}


@pytest.mark.parametrize("name", SIZES)
def test_size_strength_and_edges_are_those_of_the_restore_node(
    host: ComfyHost, model: sc.SwinIR, source: Path, name: str
) -> None:
    size, pixel_format, sides = SIZES[name]
    write_video(source, 3, (62, 46), "libx264", "yuv444p", colorspace=1)
    inputs = {"size": size.way, "size_value": size.value, "strength": 0.7, "edges": "wrapped"}
    inputs["reduce_flicker"] = steady = name == "several runs"

    encoding = {**EXACT, "pixel_format": pixel_format}
    result = host.run(restoring(loaded(source), **encoding, **inputs))

    restorer = sc.Restorer(model, edges="wrapped", strength=0.7)
    frames = check_inputs(torch.from_numpy(pictures_of(source)) / 255)
    results, steadier = restore_to_size(restorer, frames, size), Steadier()
    if steady:
        pairs = zip(frames.images, results, strict=True)
        results = torch.stack([steadier.add(*pair) for pair in pairs])
    file = pictures_of(saved(host, result))
    assert file.shape[1:3] == sides
    assert np.abs(luma(file) - luma(results.numpy() * 255)).mean() < (
        1 if pixel_format == "yuv444p" else 2
    )


def test_frames_and_sound_in_memory(host: ComfyHost, model: sc.SwinIR, source: Path) -> None:
    write_video(source, 5, sound="aac")
    sample = node("SwinIRSampleImage", picture="cat", shrink=4, frames=5)
    graph = {
        **restoring(
            node("CreateVideo", images=link("sample"), fps=12.0, audio=link("parts", 1)), **EXACT
        ),
        "sample": sample,
        "parts": node("GetVideoComponents", video=link("file")),
        "file": loaded(source),
        "images": node("SaveImage", images=link("sample"), filename_prefix="test"),
    }

    result = host.run(graph)

    file = saved(host, result)
    expected = restored_by(model, result.images("images").astype(np.float32))
    height, width = expected.shape[1:3]
    assert np.abs(pictures_of(file)[:, :height, :width] - expected).max() < 4
    with av.open(str(file)) as video:
        assert video.streams.video[0].average_rate == 12
        assert len(video.streams.audio) == 1


def test_a_trimmed_video(host: ComfyHost, model: sc.SwinIR, source: Path) -> None:
    if "Video Slice" not in host.get_json("/object_info"):
        pytest.skip(f"{find_home()} trims no videos")
    write_video(source, 25, pixel_format="yuv444p", sound="aac", colorspace=1)
    slice_ = node(
        "Video Slice", video=link("file"), start_time=0.4, duration=0.2, strict_duration=False
    )
    graph = {**restoring(slice_, **EXACT), "file": loaded(source)}

    file = saved(host, host.run(graph))

    expected = restored_by(model, pictures_of(source)[10:15])
    assert np.abs(pictures_of(file) - expected).max() < 3


def test_what_is_no_video_is_a_sentence(host: ComfyHost, model: sc.SwinIR, source: Path) -> None:
    source.write_bytes(b"hello" * 1000)
    before = temporary(host)

    result = host.run_failing(restoring(loaded(source)))

    assert result.error.startswith(f"{source} cannot be read as a video")
    assert result.kind_of_error == "ValueError"
    assert temporary(host) == before


def test_an_interrupt_leaves_what_is_done_and_says_where(
    host: ComfyHost, model: sc.SwinIR, source: Path
) -> None:
    write_video(source, 400, (96, 96), sound="aac")
    before = temporary(host)
    graph = restoring(loaded(source))
    prompt = host.submit(graph)
    deadline = time.monotonic() + 60
    while not temporary(host) - before and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.5)

    asked = time.monotonic()
    host.post("/interrupt", {"prompt_id": prompt})
    result = Result(host, host.wait(prompt))

    assert time.monotonic() - asked < 3  # On a machine that others use.
    assert "execution_interrupted" in result.messages
    (left,) = temporary(host) - before
    frames = len(times_of(left))
    assert 0 < frames < 400
    assert f"stopped; the first {frames} frames are in {left}" in host.new_log()
    first = restored_by(model, pictures_of(source)[:1])[0]
    assert np.abs(luma(pictures_of(left)[0]) - luma(first)).mean() < 3


def test_a_choice_that_does_not_fit_is_a_sentence(
    host: ComfyHost, model: sc.SwinIR, source: Path
) -> None:
    write_video(source, 2)
    graph = restoring(loaded(source), codec="av1", pixel_format="yuv444p")
    assert "av1 does not take yuv444p" in host.run_failing(graph).error
