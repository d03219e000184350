"""Settings of the restore node: precision, ensemble, mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spandrel import ImageModelDescriptor, ModelLoader

import swinir_core as sc
from swinir_core.restoration.foreign_model import ForeignModel
from swinir_core.restoration.inputs import check_inputs
from swinir_core.restoration.sizing import TargetSize, restore_to_size
from tests.host.comfy_host import ComfyHost
from tests.host.conftest import (
    assert_same,
    make_picture,
    save,
    save_official,
    tiny_model,
    to_tensor,
)
from tests.host.graphs import Node, link, node, ours, theirs, tiled, upscaling

pytestmark = pytest.mark.host


def restoring(loader: Node, image: str, options: dict[str, Any], **more: Node) -> dict[str, Node]:
    inputs = {"upscale_model": link("loader"), "image": link("load"), **options}
    return {**upscaling(loader, image), "upscale": node("SwinIRRestore", **inputs), **more}


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16", "float16"])
@pytest.mark.parametrize("loader", [ours, theirs])
def test_precision(
    host: ComfyHost,
    models: Path,
    upscale_models: Path,
    picture: np.ndarray,
    precision: str,
    loader: Any,
) -> None:
    model = tiny_model()
    save(model, models / "own.safetensors")
    save_official(model, upscale_models / "foreign.pth")
    file = "own.safetensors" if loader is ours else "foreign.pth"
    image = host.upload("picture.png", picture)

    result = host.run(restoring(loader(file), image, {"precision": precision})).image()

    # On a CPU nothing is gained by half precision, so nothing is given up for it.
    dtype = torch.float32 if precision == "auto" else getattr(torch, precision)
    path = models / "own.safetensors"
    expected = sc.Restorer(sc.load_model(path, dtype=dtype), dtype=dtype)(to_tensor(picture))
    assert_same(result, expected)


@pytest.mark.parametrize("precision", ["auto", "bfloat16", "float16"])
def test_precision_of_another_architecture(
    host: ComfyHost, compact: Path, picture: np.ndarray, precision: str
) -> None:
    image = host.upload("picture.png", picture)

    result = host.run(restoring(theirs(compact.name), image, {"precision": precision})).image()

    dtype = torch.float32 if precision == "auto" else getattr(torch, precision)
    model = ModelLoader().load_from_file(compact)
    assert isinstance(model, ImageModelDescriptor)
    assert_same(result, sc.Restorer(ForeignModel(model), "cpu", dtype)(to_tensor(picture)))


def test_ensemble(host: ComfyHost, models: Path, picture: np.ndarray) -> None:
    model = tiny_model()
    save(model, models / "ensemble.safetensors")
    image = host.upload("picture.png", picture)
    graph = restoring(ours("ensemble.safetensors"), image, {"ensemble": True})

    result = host.run(graph)

    assert_same(result.image(), sc.Restorer(model, ensemble=True)(to_tensor(picture)))
    assert "SwinIR Restore in eight ways: 1 image of " in host.new_log()


@pytest.mark.parametrize("shrink", [1, 2])
def test_mask(host: ComfyHost, models: Path, picture: np.ndarray, shrink: int) -> None:
    model = tiny_model()
    save(model, models / "mask.safetensors")
    mask = np.zeros((picture.shape[0] // shrink, picture.shape[1] // shrink, 3), np.uint8)
    mask[: len(mask) // 2] = 255
    graph = restoring(
        ours("mask.safetensors"),
        host.upload("picture.png", picture),
        {"mask": link("mask")},
        mask=node("LoadImageMask", image=host.upload("mask.png", mask), channel="red"),
    )

    result = host.run(graph).image()

    images = to_tensor(picture)
    upper, lower = slice(0, 60), slice(84, None)
    restored = sc.Restorer(model)(images)
    kept = sc.Restorer(model)(images, mask=torch.zeros(1, *picture.shape[:2]))
    assert_same(result[upper], restored[:, upper])
    assert_same(result[lower], kept[:, lower])


def test_a_black_mask_is_in_the_log(host: ComfyHost, picture: np.ndarray) -> None:
    graph = restoring(
        ours("bundled/denoise color (light)"),
        host.upload("picture.png", picture),
        {"mask": link("mask")},
        mask=node("SolidMask", value=0.0, width=32, height=32),
    )

    assert host.run(graph).succeeded

    assert (
        "1 of 1 images: it is black everywhere, or strength is 0, so nothing is restored"
        in host.new_log()
    )


def test_a_list_is_restored_image_by_image(host: ComfyHost, models: Path) -> None:
    model = tiny_model()
    save(model, models / "list.safetensors")
    frames = [make_picture(seed) for seed in (1, 2)]
    first, second = (host.upload(f"listed{i}.png", frame) for i, frame in enumerate(frames))
    graph = restoring(
        ours("list.safetensors"),
        first,
        {"image": link("list")},
        second=node("LoadImage", image=second),
        batch=node("ImageBatch", image1=link("load"), image2=link("second")),
        list=node("RebatchImages", images=link("batch"), batch_size=1),
    )

    result = host.run(graph)

    assert_same(result.images(), sc.Restorer(model)(to_tensor(np.stack(frames))))


@pytest.mark.parametrize(
    ("way", "value", "strength", "size"),
    [
        ("model", 9.0, 0.5, (144, 176)),
        ("factor", 1.5, 1.0, (108, 132)),
        ("factor", 3.0, 1.0, (216, 264)),
        ("longer side", 200.0, 0.7, (164, 200)),
        ("megapixels", 0.01, 1.0, (90, 111)),
    ],
)
def test_size_and_strength(
    host: ComfyHost, models: Path, way: str, value: float, strength: float, size: tuple[int, int]
) -> None:
    model = tiny_model()
    save(model, models / "sized.safetensors")
    frames = np.stack([make_picture(seed) for seed in (1, 2)])
    first, second = (host.upload(f"sized{i}.png", frame) for i, frame in enumerate(frames))
    graph = restoring(
        ours("sized.safetensors"),
        first,
        {"image": link("batch"), "size": way, "size_value": value, "strength": strength},
        second=node("LoadImage", image=second),
        batch=node("ImageBatch", image1=link("load"), image2=link("second")),
    )

    result = host.run(graph).images()

    restorer = sc.Restorer(model, strength=strength)
    expected = restore_to_size(restorer, check_inputs(to_tensor(frames)), TargetSize(way, value))
    assert result.shape[1:3] == size
    assert_same(result, expected)


def test_a_size_beyond_the_memory_is_refused(host: ComfyHost, picture: np.ndarray) -> None:
    options = {"size": "factor", "size_value": 5000.0}
    graph = restoring(
        ours("bundled/denoise color (light)"), host.upload("picture.png", picture), options
    )
    assert "the result, an image of 440000x360000 pixels, takes" in host.run_failing(graph).error


@pytest.mark.parametrize("edges", ["wrapped", "wrapped horizontally"])
@pytest.mark.parametrize("side", [32, 96])
@pytest.mark.parametrize("loader", [ours, theirs])
def test_edges_are_wrapped_in_tiles_of_any_side(
    host: ComfyHost,
    models: Path,
    upscale_models: Path,
    picture: np.ndarray,
    loader: Any,
    side: int,
    edges: str,
) -> None:
    model = tiny_model()
    save(model, models / "wrapped.safetensors")
    save_official(model, upscale_models / "wrapped.pth")
    file = "wrapped.safetensors" if loader is ours else "wrapped.pth"
    graph = restoring(
        loader(file),
        host.upload("picture.png", picture),
        {"edges": edges, "tile_settings": link("tiles")},
        tiles=tiled(side, 0),
    )

    result = host.run(graph).image()

    restorer = sc.Restorer(model, edges=edges)
    assert_same(result, restorer(to_tensor(picture), sc.TileSettings("tiled", side)))


def test_a_picture_with_alpha_is_shown_at_any_size(
    host: ComfyHost, models: Path, picture: np.ndarray
) -> None:
    """A host ends where a preview has an alpha that JPEG cannot hold."""
    save(tiny_model(), models / "own.safetensors")
    image = host.upload("picture.png", picture)
    for size in ("model", "factor"):
        graph = restoring(
            ours("own.safetensors"),
            image,
            {"image": link("join"), "size": size, "size_value": 1.5},
            join=node("JoinImageWithAlpha", image=link("load"), alpha=link("load", 1)),
        )
        assert host.run(graph).image().shape[-1] == 4
    assert host.get_json("/system_stats")
