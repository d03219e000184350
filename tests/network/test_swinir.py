"""The network equals the reference implementation, everywhere that one can run."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from skimage import data

from swinir_core import PRESETS, SwinIR, SwinIRConfig, load_model
from swinir_core.network import plan
from swinir_core.network.attention import window_attention
from swinir_core.network.plan import WindowPlan
from swinir_core.network.swinir import RSTB, pad_to_multiple
from tests.support.reference import our_network, reference_network

TINY = SwinIRConfig(
    scale=2,
    in_channels=3,
    embed_dim=12,
    depths=(2, 3),
    num_heads=(2, 3),
    window_size=8,
    mlp_ratio=2.0,
    upsampler="pixelshuffledirect",
    img_size=16,
)

VARIANTS: dict[str, dict[str, Any]] = {
    "pixelshuffledirect x2": {},
    "pixelshuffledirect x5": {"scale": 5},
    "pixelshuffle x2": {"upsampler": "pixelshuffle"},
    "pixelshuffle x3 gray": {"upsampler": "pixelshuffle", "scale": 3, "in_channels": 1},
    "pixelshuffle x8": {"upsampler": "pixelshuffle", "scale": 8},
    "nearest+conv x2": {"upsampler": "nearest+conv"},
    "nearest+conv x4, 3conv": {
        "upsampler": "nearest+conv",
        "scale": 4,
        "resi_connection": "3conv",
    },
    "nearest+conv x8": {"upsampler": "nearest+conv", "scale": 8},
    "denoise gray": {"upsampler": "none", "scale": 1, "in_channels": 1},
    "window 7, range 255": {
        "upsampler": "none",
        "scale": 1,
        "window_size": 7,
        "img_size": 14,
        "img_range": 255.0,
    },
    "window 5": {"window_size": 5, "img_size": 10},
    "window 2": {"window_size": 2},
    "window 1": {"window_size": 1},
    "patches of one window": {"img_size": 8},
    "one layer an RSTB": {"depths": (1, 1)},
    "mlp ratio 1.3": {"mlp_ratio": 1.3},
    "no patch norm": {"patch_norm": False},
    "no qkv bias": {"qkv_bias": False},
    "unshuffle 2, pixelshuffle": {"upsampler": "pixelshuffle", "start_unshuffle": 2},
    "unshuffle 4, nearest+conv": {"upsampler": "nearest+conv", "start_unshuffle": 4},
}

PARAMETERS = {
    "classical_sr_x2": 11_752_487,
    "classical_sr_x3": 11_937_127,
    "classical_sr_x4": 11_900_199,
    "classical_sr_x8": 12_047_911,
    "lightweight_sr_x2": 910_152,
    "lightweight_sr_x3": 918_267,
    "lightweight_sr_x4": 929_628,
    "real_sr_x4": 11_715_559,
    "real_sr_large_x4": 28_013_059,
    "gray_denoise": 11_497_681,
    "color_denoise": 11_504_163,
    "gray_jpeg": 11_485_585,
    "color_jpeg": 11_492_067,
}


@torch.no_grad()
def assert_parity(config: SwinIRConfig, height: int, width: int, batch: int = 1) -> None:
    reference = reference_network(config)
    x = torch.rand(batch, config.in_channels, height, width)
    expected = reference(x)[..., : height * config.scale, : width * config.scale]
    actual = our_network(config, reference)(x)
    assert actual.shape == (batch, config.in_channels, height * config.scale, width * config.scale)
    assert (actual - expected).abs().max().item() <= 1e-5


@pytest.mark.parametrize("name", VARIANTS)
def test_variant_equals_reference(name: str) -> None:
    config = replace(TINY, **VARIANTS[name], mean=None, task="")
    unit = config.alignment
    assert_parity(config, 2 * unit, 3 * unit, batch=2)
    # The reference cannot run unshuffled sizes that are not whole windows, nor reflect further
    # than the image reaches.
    if config.start_unshuffle == 1 and unit > 1:
        assert_parity(config, unit, unit, batch=2)
        assert_parity(config, 2 * unit + 1, 4 * unit - 1)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_equals_reference(name: str) -> None:
    assert_parity(PRESETS[name], 19, 16)


def test_absolute_position_embedding_equals_reference() -> None:
    config = replace(TINY, ape=True)
    assert_parity(config, 16, 16)
    assert_parity(config, 13, 10)


def test_absolute_position_embedding_is_resampled_for_other_sizes() -> None:
    config = replace(TINY, ape=True)
    network = our_network(config, reference_network(config))
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    x = torch.rand(1, 3, 40, 24)
    embedded = network(x)
    assert embedded.shape == (1, 3, 80, 48)
    grid = network.absolute_pos_embed.view(1, 16, 16, 12).movedim(-1, 1)
    resampled = F.interpolate(grid, (40, 24), mode="bicubic", align_corners=False)
    assert torch.allclose(network.position_embedding(40, 24), resampled)
    network.absolute_pos_embed.zero_()
    assert not torch.allclose(embedded, network(x))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count(name: str) -> None:
    network = SwinIR(PRESETS[name], device="meta")
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2), (5, 31)])
def test_any_size_from_one_pixel(size: tuple[int, int]) -> None:
    config = replace(TINY, scale=4)
    network = our_network(config, reference_network(config))
    with torch.no_grad():
        y = network(torch.rand(1, 3, *size))
    assert y.shape == (1, 3, 4 * size[0], 4 * size[1])
    assert y.isfinite().all()


def test_padding_equals_reflection_and_goes_on_beyond_it() -> None:
    x = torch.arange(5.0).view(1, 1, 1, 5).expand(1, 1, 5, 5)
    assert torch.equal(pad_to_multiple(x, 8), F.pad(x, (0, 3, 0, 3), "reflect"))
    ramp = torch.arange(3.0).view(1, 1, 1, 3)
    assert pad_to_multiple(ramp, 8)[0, 0, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]


def test_nothing_but_parameters_is_kept() -> None:
    network = SwinIR(TINY)
    assert not list(network.buffers())
    for module in network.modules():
        assert not [name for name, value in vars(module).items() if isinstance(value, torch.Tensor)]


def test_batch_items_do_not_see_each_other() -> None:
    network = our_network(TINY, reference_network(TINY))
    x = torch.rand(3, 3, 17, 20)
    with torch.no_grad():
        together = network(x)
        alone = torch.cat([network(image[None]) for image in x])
    assert torch.allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize(
    ("upsampler", "scale"),
    [
        *[("pixelshuffle", 2), ("pixelshuffle", 3), ("pixelshuffle", 8)],
        *[("pixelshuffledirect", 3), ("nearest+conv", 2), ("nearest+conv", 8), ("none", 1)],
    ],
)
@pytest.mark.parametrize("window_size", [7, 8])
@torch.no_grad()
def test_a_piece_at_a_time_equals_all_at_once(
    upsampler: str, scale: int, window_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(
        TINY, upsampler=upsampler, scale=scale, window_size=window_size, img_size=64, task=""
    )
    network = our_network(config, reference_network(replace(config, img_size=2 * window_size)))
    x = torch.rand(2, 3, 40, 25)
    monkeypatch.setattr(plan, "_CPU_TOKENS", 10**9)
    at_once = network(x)
    monkeypatch.setattr(plan, "_CPU_TOKENS", 150)
    monkeypatch.setattr(plan, "_CPU_STRIP_ROWS", 5)
    monkeypatch.setattr(plan, "_CPU_STRIP_PIXELS", 1)
    assert (network(x) - at_once).abs().max() <= 1e-5


def test_with_and_without_a_graph_the_result_is_the_same() -> None:
    network = our_network(TINY, reference_network(TINY))
    x = torch.rand(2, 3, 40, 25)
    with torch.no_grad():
        expected = network(x)
    assert torch.allclose(network(x), expected, atol=1e-6)
    network.requires_grad_(False)
    assert torch.allclose(network(x.requires_grad_()), expected, atol=1e-6)


@pytest.mark.parametrize("head_dim", [6, 10, 16, 30])
@pytest.mark.parametrize("tokens", [1, 49, 64])
@pytest.mark.parametrize("windows", [1, 5])
@torch.no_grad()
def test_every_path_of_attention_gives_the_same(head_dim: int, tokens: int, windows: int) -> None:
    heads = 2
    x = torch.randn(windows, tokens, heads * head_dim)
    project = torch.nn.Linear(heads * head_dim, 3 * heads * head_dim)
    bias = torch.randn(heads, tokens, tokens)
    qkv = project(x).view(windows, tokens, 3, heads, head_dim).permute(2, 0, 3, 1, 4)
    expected = window_attention.differentiable(qkv, bias)
    assert torch.allclose(window_attention.fused(qkv, bias), expected, atol=1e-5)
    before = bias.clone()
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
        out = window_attention.channel_major(
            x.to(dtype), project.weight, project.bias, bias
        ).float()
        out = out.view(windows, tokens, heads, head_dim).transpose(1, 2)
        assert torch.allclose(out, expected, atol=tolerance)
    assert torch.equal(bias, before)


@pytest.mark.parametrize(
    "preset",
    ["classical_sr_x3", "classical_sr_x4", "lightweight_sr_x2", "real_sr_x4", "color_denoise"],
)
def test_between_long_convolutions_a_run_can_be_stopped(preset: str) -> None:
    """A strip of a picture of 4000 pixels takes seconds in the reconstruction."""
    config = replace(PRESETS[preset], depths=(1,), num_heads=(6,), window_size=8)
    network, seen = SwinIR(config).eval().requires_grad_(False), []
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d) and not name.startswith("layers"):
            module.register_forward_hook(lambda *_: seen.append("convolution"))
    network(torch.rand(1, 3, 24, 64), lambda _: seen.append("report"))
    assert seen.count("convolution") >= 3
    assert ("convolution", "convolution") not in pairwise(seen)
    seen.clear()
    network(torch.rand(1, 3, 24, 64, requires_grad=True), lambda _: seen.append("report"))
    assert "report" not in seen  # As its docstring says, where gradients are wanted.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_a_stream_beyond_float16_stays_what_it_is(dtype: torch.dtype) -> None:
    network = our_network(TINY, reference_network(TINY))
    largest = 0.0

    def note(_: torch.nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        nonlocal largest
        largest = max(largest, given[0].abs().max().item())

    for name, parameter in network.named_parameters():
        if name.endswith("mlp.fc2.bias"):
            parameter.copy_(torch.tensor([4e4, -4e4]).repeat(TINY.embed_dim // 2))
    for module in network.modules():
        if isinstance(module, RSTB):
            module.conv.register_forward_pre_hook(note)
    half = SwinIR(TINY, dtype=dtype).eval()
    half.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 24, 24)
    expected = network(x)
    assert largest > 65504
    assert (half(x.to(dtype)).float() - expected).abs().max() < 0.02 * expected.abs().max()


def test_drop_path_leaves_out_branches_image_by_image() -> None:
    network = our_network(TINY, reference_network(TINY)).train()
    x = torch.rand(1, 3, 16, 16).expand(8, -1, -1, -1)
    network.set_drop_path(0.5)
    assert [layer.drop_path for layer in network.stages] == [0, 0.125, 0.25, 0.375, 0.5]
    torch.manual_seed(0)
    first = network(x)
    assert len({image.sum().item() for image in first}) > 1
    torch.manual_seed(0)
    assert torch.equal(network(x), first)
    network.eval()
    assert torch.allclose(network(x)[0], network(x)[7], atol=1e-6)


@pytest.mark.parametrize("shifted", [False, True])
def test_drop_path_drops_whole_images(shifted: bool) -> None:
    """A branch of ones, in the order in which a layer is given the windows."""
    layer = our_network(TINY, reference_network(TINY)).train().stages[-1]
    layer.drop_path, layer.shifted = 0.5, shifted
    plan = WindowPlan.build(torch.zeros(500, 3, 8, 16), 4, keeps_graph=True)
    image = torch.arange(500.0).repeat_interleave(8)[:, None, None].expand(-1, 16, 3)
    images = []
    plan.run(lambda x, _: images.append(x[:, 0, 0].long()) or x, image.contiguous(), shifted)
    assert torch.equal(plan.images(shifted), images[0])

    dropped = layer.dropped(torch.ones(8 * 500, 16, 3), plan)

    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    by_image = dropped[images[0].argsort(stable=True)].view(500, -1)
    assert by_image.std(dim=1).eq(0).all()
    assert dropped.mean().item() == pytest.approx(1, abs=0.2)


def test_gradients_equal_the_reference() -> None:
    reference = reference_network(TINY)
    network = our_network(TINY, reference)
    x = torch.rand(2, 3, 16, 24)
    for each in (reference, network):
        each(x).square().mean().backward()
    expected = dict(reference.named_parameters())
    for name, parameter in network.named_parameters():
        gradient, wanted = parameter.grad, expected[name].grad
        assert gradient is not None, name
        assert wanted is not None, name
        assert torch.allclose(gradient, wanted, atol=1e-5), name


def test_layers_come_from_the_operations_namespace() -> None:
    made = []

    class Operations:
        @staticmethod
        def record(kind: type[torch.nn.Module]) -> Any:
            def make(*args: Any, **kwargs: Any) -> torch.nn.Module:
                layer = kind(*args, **kwargs)
                made.append(layer)
                return layer

            return make

        Linear = record(torch.nn.Linear)
        Conv2d = record(torch.nn.Conv2d)
        LayerNorm = record(torch.nn.LayerNorm)

    network = SwinIR(TINY, operations=Operations)
    leaves = {id(p) for layer in made for p in layer.parameters()}
    outside = [name for name, p in network.named_parameters() if id(p) not in leaves]
    assert all(name.endswith("relative_position_bias_table") for name in outside)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_float32(dtype: torch.dtype) -> None:
    reference = reference_network(TINY)
    network = our_network(TINY, reference)
    half = SwinIR(TINY, dtype=dtype)
    half.load_state_dict(network.state_dict())
    x = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        error = (half(x.to(dtype)).float() - network(x)).abs()
    assert half(x.to(dtype)).dtype == dtype
    assert error.mean() < (0.01 if dtype == torch.bfloat16 else 0.002)


@pytest.mark.parametrize(("dtype", "at_least"), [(torch.bfloat16, 55), (torch.float16, 70)])
@torch.no_grad()
def test_half_precision_of_trained_weights(dtype: torch.dtype, at_least: float) -> None:
    image = torch.from_numpy(data.chelsea()[100:180, 100:196].copy())
    x = image.movedim(-1, 0)[None].float() / 255
    expected = load_model("upscale_x2_light")(x)
    actual = load_model("upscale_x2_light", dtype=dtype)(x.to(dtype)).float()
    assert -10 * (actual - expected).square().mean().log10() >= at_least


def test_gradients_reach_every_parameter() -> None:
    network = our_network(TINY, reference_network(TINY))
    network(torch.rand(1, 3, 16, 16)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
