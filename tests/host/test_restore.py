"""Pictures through the graph are the pictures the core gives."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import swinir_core as sc
from tests.host.comfy_host import ComfyHost
from tests.host.conftest import assert_same, make_picture, save, tiny_model, to_tensor, trouble_in
from tests.host.graphs import link, node, ours, theirs, tiled, upscaling

pytestmark = pytest.mark.host

MODELS: dict[str, dict[str, Any]] = {
    "lightweight": {},
    "real": {"upsampler": "nearest+conv", "scale": 4, "resi_connection": "3conv"},
    "gray": {"upsampler": "none", "scale": 1, "in_channels": 1},
    "jpeg": {"upsampler": "none", "scale": 1, "window_size": 7, "img_range": 255.0},
}


@pytest.mark.parametrize("name", MODELS)
def test_restores_as_the_core_does(
    host: ComfyHost, models: Path, picture: np.ndarray, name: str
) -> None:
    model = tiny_model(**MODELS[name])
    save(model, models / f"{name}.safetensors")
    graph = upscaling(ours(f"{name}.safetensors"), host.upload("picture.png", picture))

    result = host.run(graph)

    assert_same(result.image(), sc.Restorer(model)(to_tensor(picture)))


@pytest.mark.parametrize("name", MODELS)
def test_our_model_runs_in_the_hosts_own_node(
    host: ComfyHost, models: Path, picture: np.ndarray, name: str
) -> None:
    model = tiny_model(**MODELS[name])
    save(model, models / f"{name}.safetensors")
    loader = ours(f"{name}.safetensors")
    graph = upscaling(loader, host.upload("picture.png", picture), "ImageUpscaleWithModel")

    result = host.run(graph)

    assert_same(result.image(), sc.Restorer(model)(to_tensor(picture)))


def test_bundled_model(host: ComfyHost, picture: np.ndarray) -> None:
    graph = upscaling(ours("bundled/upscale x2 (light)"), host.upload("picture.png", picture))

    result = host.run(graph)

    model = sc.load_model("upscale_x2_light")
    assert_same(result.image(), sc.Restorer(model)(to_tensor(picture)))


def test_batch_of_frames(host: ComfyHost, models: Path) -> None:
    model = tiny_model()
    save(model, models / "frames.safetensors")
    frames = np.stack([make_picture(seed) for seed in (1, 2)])
    first, second = (host.upload(f"frame{i}.png", frame) for i, frame in enumerate(frames))
    graph = upscaling(
        ours("frames.safetensors"),
        first,
        second=node("LoadImage", image=second),
        batch=node("ImageBatch", image1=link("load"), image2=link("second")),
        upscale=node("SwinIRRestore", upscale_model=link("loader"), image=link("batch")),
    )

    result = host.run(graph)

    assert_same(result.images(), sc.Restorer(model)(to_tensor(frames)))


def test_alpha_is_kept(host: ComfyHost, models: Path, picture: np.ndarray) -> None:
    model = tiny_model()
    save(model, models / "alpha.safetensors")
    ramp = np.linspace(0, 255, picture.shape[1]).astype(np.uint8)
    rgba = np.dstack([picture, np.broadcast_to(ramp, picture.shape[:2])])
    graph = upscaling(
        ours("alpha.safetensors"),
        host.upload("alpha.png", rgba),
        join=node("JoinImageWithAlpha", image=link("load"), alpha=link("load", 1)),
        upscale=node("SwinIRRestore", upscale_model=link("loader"), image=link("join")),
    )

    result = host.run(graph)

    assert_same(result.image(), sc.Restorer(model)(to_tensor(rgba)))


@pytest.mark.parametrize("overlap", [0, 8])
def test_tile_settings(host: ComfyHost, models: Path, picture: np.ndarray, overlap: int) -> None:
    model = tiny_model()
    save(model, models / "tiles.safetensors")
    graph = upscaling(
        ours("tiles.safetensors"),
        host.upload("picture.png", picture),
        tiles=tiled(64, overlap),
        upscale=node(
            "SwinIRRestore",
            upscale_model=link("loader"),
            image=link("load"),
            tile_settings=link("tiles"),
        ),
    )

    result = host.run(graph)

    restorer = sc.Restorer(model)
    tiles = sc.TileSettings("tiled", tile_size=64, overlap=overlap or None)
    assert_same(result.image(), restorer(to_tensor(picture), tiles))
    log = host.new_log()
    height, width, _ = picture.shape
    assert f"SwinIR Restore: {restorer.plan(height, width, tiles).summary()}" in log
    assert trouble_in(log) == []


def test_impossible_tile_settings_are_explained(host: ComfyHost, picture: np.ndarray) -> None:
    graph = upscaling(
        ours("bundled/upscale x2 (light)"),
        host.upload("picture.png", picture),
        tiles=tiled(64, 48),
        upscale=node(
            "SwinIRRestore",
            upscale_model=link("loader"),
            image=link("load"),
            tile_settings=link("tiles"),
        ),
    )

    result = host.run_failing(graph)

    assert "overlap must be between 0 and half the tile size of 64, got 48" in result.error


def test_second_run_comes_from_the_cache(
    host: ComfyHost, models: Path, picture: np.ndarray
) -> None:
    save(tiny_model(), models / "cached.safetensors")
    graph = upscaling(ours("cached.safetensors"), host.upload("picture.png", picture))
    host.run(graph)

    result = host.run(graph)

    assert {"load", "loader", "upscale"} <= set(result.cached_nodes)


def test_a_replaced_model_file_is_noticed(
    host: ComfyHost, models: Path, picture: np.ndarray
) -> None:
    save(tiny_model(seed=1), models / "replaced.safetensors")
    graph = upscaling(ours("replaced.safetensors"), host.upload("picture.png", picture))
    before = host.run(graph).image()
    model = tiny_model(seed=2)
    save(model, models / "replaced.safetensors")

    after = host.run(graph).image()

    assert np.abs(before.astype(int) - after).max() > 20
    assert_same(after, sc.Restorer(model)(to_tensor(picture)))


@pytest.mark.parametrize(
    ("name", "content", "explanation"),
    [
        ("page.pth", b"<!DOCTYPE html><html>", "web page"),
        ("cut.safetensors", b"\x40\x00\x00", "truncated"),
        ("empty.pt", b"", "empty"),
    ],
)
def test_a_bad_file_is_named_and_explained(
    host: ComfyHost, models: Path, picture: np.ndarray, name: str, content: bytes, explanation: str
) -> None:
    (models / name).write_bytes(content)

    result = host.run_failing(upscaling(ours(name), host.upload("picture.png", picture)))

    assert name in result.error
    assert result.kind_of_error == "ValueError"
    assert explanation in result.error
    assert "Load Upscale Model" not in result.error


def test_interrupt_ends_a_run_between_tiles(
    host: ComfyHost, models: Path, picture: np.ndarray
) -> None:
    save(tiny_model(embed_dim=48, depths=(6, 6), num_heads=(6, 6)), models / "slow.safetensors")
    graph = upscaling(
        ours("slow.safetensors"),
        host.upload("picture.png", picture),
        batch=node("RepeatImageBatch", image=link("load"), amount=1000),
        tiles=tiled(32, 8),
        upscale=node(
            "SwinIRRestore",
            upscale_model=link("loader"),
            image=link("batch"),
            tile_settings=link("tiles"),
        ),
    )
    prompt_id = host.submit(graph)
    while "Requested to load SwinIR" not in (log := host.new_log()):
        assert "Prompt executed" not in log
        time.sleep(0.2)
    time.sleep(1)

    host.post("/interrupt", {})
    start = time.monotonic()
    entry = host.wait(prompt_id)

    messages = dict(entry["status"]["messages"])
    assert messages["execution_interrupted"]["node_id"] == "upscale"
    assert time.monotonic() - start < 5
    graph = upscaling(ours("slow.safetensors"), host.upload("picture.png", picture))
    assert host.run(graph).image().shape == (144, 176, 3)


def test_a_model_of_another_kind_is_sent_to_the_hosts_loader(
    host: ComfyHost, upscale_models: Path, picture: np.ndarray, compact: Path
) -> None:
    graph = upscaling(ours(compact.name), host.upload("picture.png", picture))

    result = host.run_failing(graph)

    assert compact.name in result.error
    assert "oad it with" in result.error[:60]  # Ends may be cut off.
    assert host.run(graph | {"loader": theirs(compact.name)}).succeeded
