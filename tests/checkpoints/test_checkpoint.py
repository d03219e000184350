"""Reading, recognising and writing checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from swinir_core import (
    Checkpoint,
    CheckpointError,
    SwinIR,
    SwinIRConfig,
    load_model,
    read_checkpoint,
    write_checkpoint,
)
from swinir_core.checkpoints.models import with_pixels
from swinir_core.checkpoints.recognise import recognise
from swinir_core.checkpoints.wrapping import choose
from tests.support.reference import CONFIG, TINY, reference_network

configs = st.builds(
    lambda upsampler_scale_unshuffle, heads, head_dim, **values: SwinIRConfig(
        upsampler=upsampler_scale_unshuffle[0],
        scale=upsampler_scale_unshuffle[1],
        start_unshuffle=upsampler_scale_unshuffle[2],
        embed_dim=4 * 6 * head_dim,
        num_heads=heads,
        depths=tuple(i % 3 + 1 for i in range(len(heads))),
        **values,
    ),
    upsampler_scale_unshuffle=st.sampled_from(
        [
            *[("pixelshuffle", s, 1) for s in (2, 3, 4, 8, 16)],
            *[("pixelshuffledirect", s, 1) for s in (1, 2, 3, 5)],
            *[("nearest+conv", s, 1) for s in (2, 4, 8)],
            *[("pixelshuffle", 1, 2), ("pixelshuffledirect", 2, 2), ("nearest+conv", 1, 4)],
            *[("pixelshuffledirect", 1, 3), ("none", 1, 1)],
        ]
    ),
    heads=st.lists(st.sampled_from([1, 2, 3, 6]), min_size=1, max_size=11).map(tuple),
    head_dim=st.integers(1, 2),
    in_channels=st.sampled_from([1, 3]),
    window_size=st.integers(1, 12),
    mlp_ratio=st.sampled_from([1.0, 1.3, 2.0, 4.0]),
    resi_connection=st.sampled_from(["1conv", "3conv"]),
    qkv_bias=st.booleans(),
    patch_norm=st.booleans(),
    ape=st.booleans(),
    num_feat=st.sampled_from([16, 64]),
)


@given(configs)
@settings(max_examples=100, deadline=None)
def test_every_hyper_parameter_is_recognised(config: SwinIRConfig) -> None:
    weights = SwinIR(config, device="meta").state_dict()
    found = recognise(weights)
    expected = replace(
        config,
        # Not to be seen in weights: range, and what is written nowhere for these upsamplers.
        img_range=255.0 if config.window_size == 7 else 1.0,
        mlp_ratio=config.hidden_dim / config.embed_dim,
        num_feat=config.num_feat if "conv_before_upsample.0.weight" in weights else 64,
        task="",
    )
    assert found == expected


def prefixed(prefix: str) -> Callable[[dict[str, Tensor]], dict[str, Any]]:
    return lambda weights: {prefix + key: value for key, value in weights.items()}


def wrapped(*keys: str) -> Callable[[dict[str, Tensor]], dict[str, Any]]:
    def wrap(weights: dict[str, Tensor]) -> dict[str, Any]:
        contents: dict[str, Any] = weights
        for key in reversed(keys):
            contents = {key: contents, "epoch": 3}
        return contents

    return wrap


def worse(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value + 1 for key, value in weights.items()}


def joined(before: str, weights: dict[str, Tensor], joint: str = "_") -> dict[str, Tensor]:
    return {before + key.replace(".", joint): value for key, value in weights.items()}


def lit_ema(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    counters = {"decay": torch.tensor(0.99), "num_updates": torch.tensor(7)}
    return counters | joined("", weights, "")


def with_mask(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """With a mask where the network has it, among its weights."""
    masked = {}
    for key, value in weights.items():
        if key.endswith("blocks.1.norm1.weight"):
            masked[key.replace("norm1.weight", "attn_mask")] = torch.zeros(4, 64, 64)
        masked[key] = value
    return masked


LAYOUTS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bare": lambda w: w,
    "params": wrapped("params"),
    "params_ema before params": lambda w: {"params": worse(w), "params_ema": w},
    "state_dict": wrapped("state_dict"),
    "model": wrapped("model"),
    "model, state_dict": wrapped("model", "state_dict"),
    "module.": prefixed("module."),
    "_orig_mod.": prefixed("_orig_mod."),
    "module._orig_mod.": prefixed("module._orig_mod."),
    "netG.": prefixed("netG."),
    "params, module.": lambda w: wrapped("params")(prefixed("module.")(w)),
    "ema beside the last step": lambda w: (
        prefixed("generator.")(worse(w)) | prefixed("generator_ema.")(w)
    ),
    "another network beside it": lambda w: (
        prefixed("netG.")(w) | {"netD.conv_first.weight": torch.zeros(3)}
    ),
    "ema before model": lambda w: {"model": worse(w), "ema": w},
    "model_ema before model": lambda w: {"model": worse(w), "model_ema": w},
    "state_dict_ema before state_dict": lambda w: {"state_dict": worse(w), "state_dict_ema": w},
    "params, net_g": wrapped("params", "net_g"),
    "averaged model": lambda w: (
        prefixed("module.")(w)
        | {"module.n_averaged": torch.tensor(3), "n_averaged": torch.tensor(3)}
    ),
    "averaged model under any name": lambda w: {
        "model": worse(w),
        "second": prefixed("module.")(w) | {"n_averaged": torch.tensor(3)},
    },
    "LitEma": lambda w: prefixed("model.")(worse(w)) | prefixed("model_ema.")(lit_ema(w)),
    "LitEma around another module": lambda w: {
        "state_dict": prefixed("net.")(worse(w)) | prefixed("net_ema.net")(lit_ema(w))
    },
    "LitEma in a dictionary": lambda w: {"model": worse(w), "ema": lit_ema(w)},
    "LitEma alone": lambda w: lit_ema(w),
    "EMAHook of mmcv": lambda w: {"meta": {"iter": 9}, "state_dict": worse(w) | joined("ema_", w)},
    "EMAHook of mmcv around a restorer": lambda w: {
        "state_dict": prefixed("generator.")(worse(w)) | joined("ema_generator_", w)
    },
    "EMAHook of mmengine exchanges both": lambda w: {
        "state_dict": prefixed("generator.")(w),
        "ema_state_dict": prefixed("module.generator.")(worse(w)) | {"steps": torch.tensor(9)},
    },
    "torch_ema beside the network": lambda w: {
        "model": prefixed("module.")(with_mask(worse(w))),
        "ema": {"decay": 0.9, "shadow_params": list(w.values()), "collected_params": None},
    },
    "torch_ema after storing": lambda w: {
        "ema": {"shadow_params": list(w.values()), "collected_params": list(worse(w).values())},
        "net": worse(w),
    },
    "keys that are not names": lambda w: w | {1: torch.zeros(3)},
    "params-ema before params": lambda w: {"params": worse(w), "params-ema": w},
    "EMA of a class": lambda w: {"model": worse(w), "modelEMA": w},
    "KAIR's E": lambda w: {"netG": worse(w), "netE": w},
    "any name": wrapped("my_model"),
    "average deep, last step above": lambda w: {
        "model": worse(w),
        "state": {"callbacks": {"EMA": {"state_dict": w}}},
    },
    "online and average": lambda w: {
        "ema": prefixed("online_model.")(worse(w)) | prefixed("ema_model.")(w)
    },
    "Adam's average is none": lambda w: {"model": w, "optimizer": {"exp_avg": worse(w)}},
    "average beside bare weights": lambda w: worse(w) | prefixed("ema.")(w),
    "in a list": lambda w: [w, {"lr": 1.0}],
    "counters and losses beside": lambda w: (
        w | {"n_averaged": torch.tensor(1), "loss.vgg.0.weight": torch.zeros(2)}
    ),
    "compiled layer by layer": lambda w: {
        k.replace(".blocks.0.", ".blocks.0._orig_mod."): v for k, v in w.items()
    },
}


@given(configs, st.sampled_from(["", "_"]))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_dots_are_put_back_into_every_name(config: SwinIRConfig, joint: str) -> None:
    weights = SwinIR(config, device="meta").state_dict()
    taken = choose({("ema",): joined("", weights, joint)}).weights
    assert all(taken[key] is weights[key] for key in weights)
    assert taken.keys() == weights.keys()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".PTH"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pickled_layouts(
    layout: str, suffix: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"model{suffix}"
    torch.save(LAYOUTS[layout](weights), path)
    checkpoint = read_checkpoint(path)
    assert replace(checkpoint.config, img_size=16) == CONFIG
    assert checkpoint.state_dict.keys() == weights.keys()
    assert all(torch.equal(checkpoint.state_dict[key], weights[key]) for key in weights)


@pytest.mark.parametrize("layout", ["bare", "module.", "netG.", "ema beside the last step"])
def test_safetensors_layouts(layout: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(LAYOUTS[layout](weights), path)
    assert replace(read_checkpoint(path).config, img_size=16) == CONFIG


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_precisions(dtype: torch.dtype, weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save({key: value.to(dtype) for key, value in weights.items()}, path)
    assert {w.dtype for w in read_checkpoint(path).state_dict.values()} == {dtype}
    assert {p.dtype for p in load_model(path).parameters()} == {torch.float32}


def test_round_trip_is_exact(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    config = replace(CONFIG, img_range=255.0, mean=(0.5, 0.25, 0.0))
    given = Checkpoint(config, weights, {"trained_on": "wood and stone"})
    write_checkpoint(path, given)
    read = read_checkpoint(path)
    assert read.config == config
    assert read.metadata == given.metadata
    assert read.state_dict.keys() == weights.keys()
    assert all(torch.equal(read.state_dict[key], weights[key]) for key in weights)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_written_in_the_precision_asked_for(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, Checkpoint(CONFIG, weights), torch.float16)
    state_dict = read_checkpoint(path).state_dict
    assert all(torch.equal(state_dict[key], weights[key].half()) for key in weights)


def test_a_failed_write_leaves_the_old_file(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, Checkpoint(CONFIG, weights))
    before = path.read_bytes()
    with pytest.raises(Exception, match=r"metadata|str|argument"):
        write_checkpoint(path, Checkpoint(CONFIG, weights, {"bad": 1}))  # pyright: ignore
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_written_file_can_be_read_by_others(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, Checkpoint(CONFIG, weights))
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_metadata_cannot_replace_the_configuration(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    write_checkpoint(path, Checkpoint(CONFIG, weights, {"swinir_config": "{}", "format": "tf"}))
    assert read_checkpoint(path).config == CONFIG


def test_what_the_precision_cannot_hold_is_not_written(
    weights: dict[str, Tensor], tmp_path: Path
) -> None:
    large = Checkpoint(CONFIG, weights | {"norm.bias": weights["norm.bias"] + 1e5})
    with pytest.raises(CheckpointError, match=r"'norm.bias' is not finite in torch.float16"):
        write_checkpoint(tmp_path / "model.safetensors", large, torch.float16)
    assert not list(tmp_path.iterdir())


def test_missing_folders_are_made(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "model.safetensors"
    write_checkpoint(path, Checkpoint(CONFIG, weights))
    assert read_checkpoint(path).config == CONFIG


def test_mean_saved_as_a_buffer(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(weights | {"mean": torch.tensor([0.5, 0.25, 0.0]).view(1, 3, 1, 1)}, path)
    assert read_checkpoint(path).config.mean == (0.5, 0.25, 0.0)


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        (("params",), "params"),
        (("params", "params_ema"), "params_ema, averaged weights; not params"),
        ((), ""),
    ],
)
def test_what_was_taken_is_said(
    contents: tuple[str, ...], said: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    torch.save({name: dict(weights) for name in contents} or weights, path)
    assert read_checkpoint(path).taken == said


EXCHANGED = "EMAHook of mmengine exchanges both"


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ("averaged model", "module, averaged weights"),
        ("LitEma", "model_ema, averaged weights; not model"),
        (EXCHANGED, "state_dict.generator, averaged weights; not ema_state_dict.module.generator"),
        ("torch_ema beside the network", "ema.shadow_params, averaged weights; not model.module"),
    ],
)
def test_averages_are_said_to_be_such(
    layout: str, said: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    torch.save(LAYOUTS[layout](weights), path)
    assert read_checkpoint(path).taken == said


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "model.pth"


MASKS = [(1, 64, 64), (2, 64, 64), (3, 64, 64), (64, 64), (0, 64, 64), (), (5,), (1, 1, 1, 1)]


@pytest.mark.parametrize("shape", [*MASKS, None], ids=str)
def test_layers_shift_whatever_the_shape_of_their_masks(
    shape: tuple[int, ...] | None, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "model.pth"
    layer = "layers.0.residual_group.blocks.{}."
    index = {layer.format(0) + "attn.relative_position_index": torch.zeros(64, 64).long()}
    mask = {} if shape is None else {layer.format(1) + "attn_mask": torch.zeros(shape)}
    torch.save(weights | index | mask, path)
    config = read_checkpoint(path).config
    assert config.img_size > config.window_size


@given(
    shapes=st.lists(
        st.lists(st.integers(0, 9) | st.sampled_from([16, 64]), max_size=5).filter(
            lambda shape: math.prod(shape) < 10**5
        ),
        min_size=2,
        max_size=2,
    ),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bool, torch.int64]),
    blocks=st.sets(st.integers(0, 1)),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_masks_of_any_shape_change_no_weight(
    shapes: list[list[int]], dtype: torch.dtype, blocks: set[int], scratch: Path
) -> None:
    weights = SwinIR(TINY, device="cpu").state_dict()
    masks = {
        f"layers.{layer}.residual_group.blocks.{block}.attn_mask": torch.zeros(shape, dtype=dtype)
        for layer, shape in enumerate(shapes)
        for block in blocks
    }
    torch.save(weights | masks, scratch)
    checkpoint = read_checkpoint(scratch)
    assert replace(checkpoint.config, img_size=TINY.img_size) == TINY
    assert checkpoint.config.img_size > TINY.window_size
    assert ("shifts" in checkpoint.guessed) == (not masks)
    assert checkpoint.state_dict.keys() == weights.keys()
    assert all(torch.equal(checkpoint.state_dict[key], weights[key]) for key in weights)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("upsampler", "scale", "factor"),
    [
        *[("nearest+conv", 4, 2), ("nearest+conv", 1, 4), ("pixelshuffle", 1, 3)],
        *[("pixelshuffle", 2, 4), ("pixelshuffledirect", 2, 2), ("pixelshuffledirect", 1, 8)],
    ],
)
def test_unshuffling_networks_that_spandrel_saved(
    upsampler: str, scale: int, factor: int, channels: int, tmp_path: Path
) -> None:
    config = replace(
        CONFIG,
        upsampler=upsampler,
        scale=scale,
        start_unshuffle=factor,
        in_channels=channels,
    )
    path = tmp_path / "model.pth"
    torch.save({"params": reference_network(config).state_dict()}, path)
    assert replace(read_checkpoint(path).config, img_size=16) == config


def test_mean_and_range_that_no_weight_tells(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(weights, path)
    read = read_checkpoint(path)
    assert {"mean", "img_range"} <= read.guessed.keys()
    given = with_pixels(read, "0.5", "255")
    assert (given.config.mean, given.config.img_range) == ((0.5,) * 3, 255.0)
    assert not {"mean", "img_range"} & given.guessed.keys()
    write_checkpoint(path, given)
    assert read_checkpoint(path).config == given.config
    with pytest.raises(ValueError, match="mean must be one of DIV2K"):
        with_pixels(read, "0.4", None)


def test_only_safetensors_are_written(weights: dict[str, Tensor], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        write_checkpoint(tmp_path / "model.pth", Checkpoint(CONFIG, weights))
