"""The nodes around the restoration: sample pictures, scores, saved models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import swinir_core as sc
from swinir_core.choices import ALL, SAMPLES, TEXTURE
from swinir_core.degradation.samples import degraded, read_sample, views
from swinir_core.images.quality import compare
from tests.host.comfy_host import ComfyHost, Graph
from tests.host.conftest import (
    assert_same,
    make_picture,
    save,
    save_official,
    tiny_model,
    to_tensor,
)
from tests.host.graphs import link, node, ours, theirs, upscaling

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore:torch.meshgrid")]


def run_for_text(host: ComfyHost, graph: Graph, *nodes: str) -> list[str]:
    """What ``PreviewAny`` nodes show at the end of a workflow that must succeed."""
    entry = host.wait(host.submit(graph))
    assert entry["status"]["status_str"] == "success", entry["status"]
    return [entry["outputs"][name]["text"][0] for name in nodes]


# Sample Image


def test_the_list_of_pictures_and_a_seed_that_stays(host: ComfyHost) -> None:
    inputs = host.get_json("/object_info/SwinIRSampleImage")["SwinIRSampleImage"]["input"]
    assert inputs["required"]["picture"][1]["options"] == [*SAMPLES, ALL, TEXTURE]
    optional = inputs["optional"]
    assert {name: options["default"] for name, (_, options) in optional.items()} == {
        **{"shrink": 1, "noise": 0, "jpeg_quality": 100, "gray": False, "seed": 0},
        "frames": 1,
    }
    # Else the frontend adds a control that changes the seed after each run.
    assert optional["seed"][1]["control_after_generate"] is False


@pytest.mark.parametrize(
    "widgets",
    [
        {},
        {"shrink": 4},
        {"noise": 25, "seed": 3, "gray": True},
        {"shrink": 2, "noise": 15, "jpeg_quality": 40},
    ],
)
def test_sample_image(host: ComfyHost, widgets: dict[str, Any]) -> None:
    graph = {
        "sample": node("SwinIRSampleImage", picture="cat", **widgets),
        "save": node("SaveImage", images=link("sample"), filename_prefix="test"),
        "save_original": node("SaveImage", images=link("sample", 1), filename_prefix="test"),
    }

    result = host.run(graph)

    image, original = degraded(read_sample("cat"), **widgets)
    assert_same(result.image("save"), torch.from_numpy(image)[None])
    assert_same(result.image("save_original"), torch.from_numpy(original)[None])


def test_frames_move_and_have_noise_of_their_own(host: ComfyHost) -> None:
    widgets = {"noise": 25, "seed": 3, "frames": 2}
    graph = {
        "sample": node("SwinIRSampleImage", picture="cat", **widgets),
        "save": node("SaveImage", images=link("sample"), filename_prefix="test"),
        "save_original": node("SaveImage", images=link("sample", 1), filename_prefix="test"),
    }

    result = host.run(graph)

    frames = [
        degraded(view, noise=25, seed=3 + number)
        for number, view in enumerate(views(read_sample("cat"), 2))
    ]
    for name, expected in zip(("save", "save_original"), zip(*frames, strict=True), strict=True):
        assert_same(result.images(name), torch.from_numpy(np.stack(expected)))


def test_a_jpeg_quality_of_100_is_none(host: ComfyHost) -> None:
    sample = node("SwinIRSampleImage", picture="cat", jpeg_quality=100)
    graph = {"sample": sample, **quality_of(link("sample"), link("sample", 1), channel="RGB")}
    assert run_for_text(host, graph, "psnr") == ["inf"]


# Look at Image


def test_the_model_that_is_named_is_loaded_and_restores(host: ComfyHost) -> None:
    graph = {
        "sample": node("SwinIRSampleImage", picture="coffee", shrink=3, noise=25),
        "look": node("SwinIRLookAtImage", image=link("sample")),
        "loader": node("SwinIRModelLoader", model_name=link("look", 1)),
        "restore": node(
            "SwinIRRestore",
            upscale_model=link("loader"),
            image=link("sample"),
            strength=link("look", 2),
        ),
        "preview": node("PreviewImage", images=link("restore")),
        "advice": node("PreviewAny", source=link("look")),
    }
    (advice,) = run_for_text(host, graph, "advice")
    assert "noise of sigma 2" in advice
    assert advice.endswith("Use denoise color (light).")
    found = host.run(graph).found("look")
    assert found["model_name"] == ["bundled/denoise color (light)"]
    assert found["sigma"] == [pytest.approx(25, rel=0.2)]
    assert found["text"][0].endswith(advice)


# Image Quality


def quality_of(image: list[Any], reference: list[Any], **widgets: Any) -> dict[str, Any]:
    return {
        "quality": node("SwinIRImageQuality", image=image, reference=reference, **widgets),
        "psnr": node("PreviewAny", source=link("quality")),
        "ssim": node("PreviewAny", source=link("quality", 1)),
    }


@pytest.mark.parametrize("widgets", [{}, {"channel": "RGB", "border": 3}])
def test_quality_of_a_batch(host: ComfyHost, widgets: dict[str, Any]) -> None:
    frames = np.stack([make_picture(seed) for seed in (1, 2)])
    reference = make_picture(3)
    files = {f"load{i}": host.upload(f"q{i}.png", f) for i, f in enumerate([*frames, reference])}
    graph = {
        **{name: node("LoadImage", image=file) for name, file in files.items()},
        "batch": node("ImageBatch", image1=link("load0"), image2=link("load1")),
        **quality_of(link("batch"), link("load2"), **widgets),
    }

    texts = run_for_text(host, graph, "psnr", "ssim")

    y_channel, border = widgets.get("channel") != "RGB", widgets.get("border", 0)
    expected = compare(to_tensor(frames), to_tensor(reference), border, y_channel)
    assert host.run(graph).found("quality")["psnr"] == [pytest.approx(expected.psnr, abs=1e-3)]
    psnr, ssim = (float(text) for text in texts)
    assert psnr == pytest.approx(expected.psnr, abs=1e-3)
    assert ssim == pytest.approx(expected.ssim, abs=1e-5)


def test_quality_runs_with_nothing_behind_it_and_knows_identical_images(host: ComfyHost) -> None:
    sample = node("SwinIRSampleImage", picture="coffee")
    graph = {"sample": sample, **quality_of(link("sample"), link("sample", 1))}
    alone = {name: graph[name] for name in ("sample", "quality")}

    found = host.run(alone).found("quality")
    assert (found["psnr"], found["ssim"]) == ([None], [pytest.approx(1)])
    psnr, ssim = (float(text) for text in run_for_text(host, graph, "psnr", "ssim"))
    assert psnr == float("inf")
    assert ssim == pytest.approx(1)


def test_an_alpha_channel_does_not_count(host: ComfyHost) -> None:
    graph = {
        "sample": node("SwinIRSampleImage", picture="cat"),
        "mask": node("SolidMask", value=0.5, width=225, height=150),
        "join": node("JoinImageWithAlpha", image=link("sample"), alpha=link("mask")),
        **quality_of(link("join"), link("sample", 1)),
    }
    assert run_for_text(host, graph, "psnr") == ["inf"]


@pytest.mark.parametrize(
    ("widgets", "output", "explanation"),
    [
        ({}, 0, "112x75 pixels and the reference 224x150; only images of the same size"),
        ({"border": 40}, 1, "11x11 pixels are compared, but images of 112x75 with a border of 40"),
    ],
)
def test_what_cannot_be_compared_is_explained(
    host: ComfyHost, widgets: dict[str, Any], output: int, explanation: str
) -> None:
    sample = node("SwinIRSampleImage", picture="cat", shrink=2)
    reference = link("sample") if output else link("sample", 1)
    graph = {"sample": sample, **quality_of(link("sample"), reference, **widgets)}

    assert explanation in host.run_failing(graph).error


# Save Model


def saving(loader: dict[str, Any], **widgets: Any) -> dict[str, Any]:
    return {
        "loader": loader,
        "save_model": node("SwinIRSaveModel", upscale_model=link("loader"), **widgets),
        "text": node("PreviewAny", source=link("save_model")),
    }


def assert_holds(path: Path, model: sc.SwinIR, dtype: torch.dtype) -> None:
    saved = sc.read_checkpoint(path)
    assert saved.config == model.config
    assert saved.state_dict.keys() == model.state_dict().keys()
    for key, weight in model.state_dict().items():
        assert saved.state_dict[key].dtype == dtype
        assert torch.equal(saved.state_dict[key], weight.to(dtype)), key


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float32"])
def test_our_own_model_is_saved(host: ComfyHost, models: Path, precision: str) -> None:
    model = tiny_model(seed=7, img_range=255.0)
    save(model, models / "own.safetensors", {"trained_on": "stamps"})
    graph = saving(ours("own.safetensors"), name=f"kept/own_{precision}", precision=precision)

    (name,) = run_for_text(host, graph, "text")

    assert name == f"kept/own_{precision}.safetensors"
    assert_holds(models / name, model, getattr(torch, precision))
    assert sc.read_checkpoint(models / name).metadata == {"trained_on": "stamps"}


@pytest.mark.parametrize("changes", [{}, {"upsampler": "nearest+conv", "start_unshuffle": 2}])
def test_a_model_of_the_hosts_loader_is_saved_and_still_runs(
    host: ComfyHost, models: Path, upscale_models: Path, picture: np.ndarray, changes: dict
) -> None:
    model = tiny_model(seed=8, **changes)
    save_official(model, upscale_models / "to_save.pth")
    graph = upscaling(theirs("to_save.pth"), host.upload("picture.png", picture))
    file = f"foreign{len(changes)}"
    graph |= saving(theirs("to_save.pth"), name=file, precision="float32")

    result = host.run(graph)

    assert_holds(models / f"{file}.safetensors", model, torch.float32)
    found = result.found("save_model")
    assert found["model_name"] == [f"{file}.safetensors"]
    assert [Path(path) for path in found["path"]] == [models / f"{file}.safetensors"]
    assert_same(result.image(), sc.Restorer(model)(to_tensor(picture)))
    saved = host.run(upscaling(ours(f"{file}.safetensors"), host.upload("p.png", picture)))
    assert_same(saved.image(), sc.Restorer(model)(to_tensor(picture)))


def test_nothing_is_overwritten(host: ComfyHost, models: Path, upscale_models: Path) -> None:
    save(tiny_model(), models / "source.safetensors")
    (models / "taken.safetensors").write_bytes(b"precious")
    (upscale_models / "taken_2.safetensors").write_bytes(b"may be found in place of ours")
    (models / "taken_3.safetensors").mkdir()
    # A link that leads nowhere: as yet, or because a disk is not there.
    (models / "taken_4.safetensors").symlink_to(models / "gone.safetensors")
    names = []

    for precision in ("float16", "float32"):
        graph = saving(ours("source.safetensors"), name="taken", precision=precision)
        names += run_for_text(host, graph, "text")

    assert names == ["taken_5.safetensors", "taken_6.safetensors"]
    assert (models / "taken.safetensors").read_bytes() == b"precious"
    assert not list(models.glob(".*"))


@pytest.mark.parametrize(
    ("name", "explanation"),
    [
        ("../elsewhere", "must not contain '..'"),
        ("/elsewhere", "absolute path"),
        ("C:\\elsewhere", "takes no ':'"),
        ("nul", "Windows keeps"),
        ("", "is empty"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(
    host: ComfyHost, models: Path, name: str, explanation: str
) -> None:
    graph = saving(ours("bundled/upscale x2 (light)"), name=name)

    assert explanation in host.run_failing(graph).error
    assert not list(models.parent.rglob("*elsewhere*"))


def test_another_architecture_is_not_saved(host: ComfyHost, compact: Path) -> None:
    result = host.run_failing(saving(theirs(compact.name)))
    assert "saves only SwinIR models; this one is of type SRVGGNetCompact" in result.error


def test_weights_too_large_for_float16_are_explained(host: ComfyHost, models: Path) -> None:
    model = tiny_model()
    next(model.parameters()).mul_(1e6)
    save(model, models / "large.safetensors")

    result = host.run_failing(saving(ours("large.safetensors"), name="large16"))

    assert "is not finite in torch.float16. Choose bfloat16 or float32" in result.error
    assert not (models / "large16.safetensors").exists()


def test_a_folder_that_cannot_be_made_is_explained(host: ComfyHost, models: Path) -> None:
    (models / "a_file").write_text("")

    result = host.run_failing(saving(ours("bundled/upscale x2 (light)"), name="a_file/model"))

    assert f"model.safetensors cannot be written: {models / 'a_file'} is not a f" in result.error
