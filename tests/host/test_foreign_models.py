"""Models that the host's own loader made, in our node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spandrel import ImageModelDescriptor, ModelLoader

import swinir_core as sc
from tests.host.comfy_host import ComfyHost
from tests.host.conftest import assert_same, save_official, tiny_model, to_tensor
from tests.host.graphs import link, node, theirs, tiled, upscaling

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore:torch.meshgrid")]

SWINIRS: dict[str, dict[str, Any]] = {
    "x2": {},
    "gray": {"upsampler": "none", "scale": 1, "in_channels": 1},
    "window7": {
        "upsampler": "none",
        "scale": 1,
        "window_size": 7,
        "img_range": 255.0,
        "img_size": 42,
    },
    "unshuffled": {"upsampler": "nearest+conv", "scale": 2, "start_unshuffle": 2},
}


@pytest.mark.parametrize("name", SWINIRS)
def test_a_swinir_from_the_hosts_loader_runs_on_our_network(
    host: ComfyHost, upscale_models: Path, picture: np.ndarray, name: str
) -> None:
    model = tiny_model(**SWINIRS[name])
    save_official(model, upscale_models / f"{name}.pth")
    graph = upscaling(theirs(f"{name}.pth"), host.upload("picture.png", picture))

    result = host.run(graph)

    assert_same(result.image(), sc.Restorer(model)(to_tensor(picture)))


def test_the_host_can_go_on_using_a_model_we_have_run(
    host: ComfyHost, upscale_models: Path, picture: np.ndarray
) -> None:
    model = tiny_model(seed=3)
    save_official(model, upscale_models / "both.pth")
    graph = upscaling(
        theirs("both.pth"),
        host.upload("picture.png", picture),
        again=node("ImageUpscaleWithModel", upscale_model=link("loader"), image=link("upscale")),
        save_again=node("SaveImage", images=link("again"), filename_prefix="test"),
        third=node("SwinIRRestore", upscale_model=link("loader"), image=link("again")),
        save_third=node("SaveImage", images=link("third"), filename_prefix="test"),
    )

    result = host.run(graph)

    restorer = sc.Restorer(model)
    expected = to_tensor(picture)
    for save in ("save", "save_again", "save_third"):
        expected = restorer(expected)
        assert_same(result.image(save), expected)


def test_another_architecture_runs_in_tiles(
    host: ComfyHost, compact: Path, picture: np.ndarray
) -> None:
    graph = upscaling(
        theirs(compact.name),
        host.upload("picture.png", picture),
        tiles=tiled(64, 32),
        tiled=node(
            "SwinIRRestore",
            upscale_model=link("loader"),
            image=link("load"),
            tile_settings=link("tiles"),
        ),
        save_tiled=node("SaveImage", images=link("tiled"), filename_prefix="test"),
    )

    result = host.run(graph)

    model = ModelLoader().load_from_file(compact)
    assert isinstance(model, ImageModelDescriptor)
    expected = model(to_tensor(picture).movedim(-1, 1)).movedim(1, -1)
    assert_same(result.image("save"), expected)
    assert_same(result.image("save_tiled"), expected)
