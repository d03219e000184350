"""Two models mixed into one, from either loader into every node that takes a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import swinir_core as sc
from swinir_core.checkpoints.blending import blend
from swinir_core.checkpoints.models import build_model, find_model
from tests.host.comfy_host import ComfyHost
from tests.host.conftest import (
    assert_same,
    make_picture,
    save,
    save_official,
    tiny_model,
    to_tensor,
)
from tests.host.graphs import Node, link, node, ours, theirs, upscaling
from tests.support.relabelled import relabelled

pytestmark = [pytest.mark.host, pytest.mark.filterwarnings("ignore:torch.meshgrid")]


def blending(a: Node, b: Node, amount: float, image: str, **more: Any) -> dict[str, Node]:
    blender = node("SwinIRBlendModels", model_a=link("a"), model_b=link("b"), amount=amount)
    return upscaling(blender, image, a=a, b=b, **more)


def checkpoint(model: sc.SwinIR, name: str) -> sc.Checkpoint:
    return sc.Checkpoint(model.config, dict(model.state_dict()), name=name)


def test_a_blend_is_an_upscale_model_like_any_other(
    host: ComfyHost, models: Path, upscale_models: Path, picture: np.ndarray
) -> None:
    a, b = tiny_model(1), tiny_model(2)
    save(a, models / "blend_a.safetensors", {"trained_on": "stamps"})
    save_official(b, upscale_models / "blend_b.pth")
    image = host.upload("blend.png", picture)

    def run(amount: float) -> Any:
        saver = node(
            "SwinIRSaveModel", upscale_model=link("loader"), name="blended", precision="float32"
        )
        more = {
            "theirs": node(
                "ImageUpscaleWithModel", upscale_model=link("loader"), image=link("load")
            ),
            "save_theirs": node("SaveImage", images=link("theirs"), filename_prefix="theirs"),
            "only_a": node("SwinIRRestore", upscale_model=link("a"), image=link("load")),
            "save_a": node("SaveImage", images=link("only_a"), filename_prefix=f"a{amount}"),
            "save_model": saver,
        }
        graph = blending(ours("blend_a.safetensors"), theirs("blend_b.pth"), amount, image, **more)
        return host.run(graph)

    for amount in (0.3, 1.0):
        result = run(amount)
        mixed = blend(checkpoint(a, "blend_a"), checkpoint(b, ""), amount)
        expected = sc.Restorer(build_model(mixed))(to_tensor(picture))
        assert_same(result.image(), expected)
        assert_same(result.image("save_theirs"), expected)
        assert_same(result.image("save_a"), sc.Restorer(a)(to_tensor(picture)))
        total = f"{1 - amount:g} blend_a + {amount:g} a lightweight_sr model"
        saved = sc.read_checkpoint(result.found("save_model")["path"][0])
        assert saved.metadata == {"blended": total, "model_a.trained_on": "stamps"}
        for key, weight in mixed.state_dict.items():
            assert (saved.state_dict[key] - weight).abs().max() < 1e-6
        text = " ".join(result.found("loader")["text"][0].split())
        assert text.endswith(f"lightweight SR, x2, RGB, 0.01M weights, {total}")
    # The slider moved: neither file was read again.
    assert {"a", "b", "load"} <= set(result.cached_nodes)


def test_strangers_are_named_on_the_node_and_in_the_log(host: ComfyHost, models: Path) -> None:
    stranger = relabelled(sc.read_checkpoint(find_model("upscale_x2_light")))
    sc.write_checkpoint(models / "stranger.safetensors", stranger)
    image = host.upload("small.png", make_picture(4, 64, 64))
    host.new_log()

    related = ours("bundled/upscale x2 (light)")
    for other, said in ((related, False), (ours("stranger.safetensors"), True)):
        text = host.run(blending(related, other, 0.5, image)).found("loader")["text"][0]
        warning = "The half-way blend restores a sample picture worse than either model:"
        assert (warning in " ".join(text.split())) is said
        assert (f"SwinIR Blend Models: {warning}" in host.new_log()) is said


def test_models_that_do_not_fit_are_explained(
    host: ComfyHost, models: Path, compact: Path, picture: np.ndarray
) -> None:
    save(tiny_model(), models / "narrow.safetensors")
    save(tiny_model(embed_dim=16), models / "wide.safetensors")
    image = host.upload("blend.png", picture)
    narrow, wide = (ours(f"{name}.safetensors") for name in ("narrow", "wide"))
    for a, b, words in (
        (narrow, wide, "model_a has embed_dim 12 and model_b 16: only models with equal shapes"),
        (theirs(compact.name), narrow, "only SwinIR models; model_a is of type SRVGGNetCompact"),
        (narrow, theirs(compact.name), "only SwinIR models; model_b is of type SRVGGNetCompact"),
    ):
        assert words in host.run_failing(blending(a, b, 0.5, image)).error
