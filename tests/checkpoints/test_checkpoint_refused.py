"""Files that are no checkpoint of a SwinIR are refused in one sentence."""

from __future__ import annotations

import argparse
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from swinir_core import CheckpointError, load_model, read_checkpoint
from swinir_core.errors import OtherNetworkError
from tests.support.reference import CONFIG


class Exploit:
    """Would create a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_no_code_is_run(weights: dict[str, Tensor], tmp_path: Path) -> None:
    path, proof = tmp_path / "model.pth", tmp_path / "executed"
    torch.save({"params": weights, "extra": Exploit(proof)}, path)
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        read_checkpoint(path)
    path.write_bytes(pickle.dumps(Exploit(proof)))
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        read_checkpoint(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("name", "contents"),
    [
        ("Linear", torch.nn.Linear(2, 2)),
        ("Namespace", {"params": {}, "options": argparse.Namespace(lr=1)}),
        ("PosixPath|WindowsPath|Path", {"params": {}, "folder": Path("runs")}),
    ],
)
def test_other_objects_are_named_and_refused(name: str, contents: Any, tmp_path: Path) -> None:
    path = tmp_path / "module.pth"
    torch.save(contents, path)
    with pytest.raises(CheckpointError, match=rf"module\.pth: .*({name}).*state_dict") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_damaged_files_end_in_one_error(
    suffix: str, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / f"damaged{suffix}"
    if suffix == ".pth":
        torch.save(weights, path, _use_new_zipfile_serialization=False)
    else:
        save_file(weights, path)
    intact = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(intact)
        for _ in range(4):
            damaged[generator.randrange(min(len(damaged), 4000))] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 100


BROKEN_FILES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty": (".pth", lambda data: b"", "empty"),
    "empty safetensors": (".safetensors", lambda data: b"", "empty"),
    "truncated": (".pth", lambda data: data[: len(data) // 2], "truncated"),
    "truncated safetensors": (".safetensors", lambda data: data[: len(data) // 2], "truncated"),
    "truncated header": (".safetensors", lambda data: data[:100], "truncated"),
    "web page": (".pth", lambda data: b"\n<!DOCTYPE html><html>", "web page"),
    "web page as safetensors": (".safetensors", lambda data: b"<html><body>404", "web page"),
    "LFS pointer": (".pth", lambda data: b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
    "noise": (".ckpt", lambda data: bytes(range(256)) * 9, "not a model"),
    "other suffix": (".txt", lambda data: data, "ends in"),
    "pickled under the name of safetensors": (
        ".safetensors",
        lambda data: b"PK\x03\x04" + data,
        "rename it to .pth",
    ),
    "safetensors under the name of a pickle": (
        ".pth",
        lambda data: bytes([64, 0, 0, 0, 0, 0, 0, 0]) + b"{" + data,
        "rename it to .safe",
    ),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_broken_file(name: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    suffix, damage, words = BROKEN_FILES[name]
    path = tmp_path / f"broken{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=rf"broken{suffix}.*{words}") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def exported(path: Path, module: torch.nn.Module) -> None:
    torch.export.save(torch.export.export(module, (torch.zeros(2, 2),)), path.with_suffix(".pt2"))
    path.with_suffix(".pt2").rename(path)


PROGRAMS: dict[str, tuple[Callable[[Path, torch.nn.Module], object], str]] = {
    "TorchScript": (
        lambda path, module: torch.jit.save(torch.jit.trace(module, torch.zeros(2, 2)), path),
        "TorchScript.*torch.jit.load",
    ),
    "exported": (exported, "exported program.*torch.export.load"),
    "pickle of arrays": (
        lambda path, _: path.write_bytes(pickle.dumps({"a": torch.zeros(9).numpy()})),
        "NumPy arrays",
    ),
    "gzip": (lambda path, _: path.write_bytes(b"\x1f\x8b" + bytes(99)), "an archive.*unpack"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_other_files_are_named(name: str, tmp_path: Path) -> None:
    write, words = PROGRAMS[name]
    path = tmp_path / "other.pth"
    write(path, torch.nn.Linear(2, 2))
    with pytest.raises(CheckpointError, match=rf"other\.pth: .*{words}"):
        read_checkpoint(path)


def test_another_architecture_is_named(tmp_path: Path) -> None:
    from spandrel.architectures.DAT import DAT

    path = tmp_path / "dat.pth"
    network = DAT(embed_dim=12, depth=[1], num_heads=[2], split_size=[2, 2])
    weights = {f"module.{k}": v for k, v in network.state_dict().items()}
    torch.save({"params_ema": weights}, path)
    with pytest.raises(OtherNetworkError, match="architecture DAT, not a SwinIR") as caught:
        read_checkpoint(path)
    assert caught.value.is_upscaler


INPAINTERS = {
    # name: keys of the file, what it is called
    "LaMa": (["generator.model.1.bn_l.running_mean"], "LaMa, not a SwinIR; it fills"),
    "LaMa alone": (
        ["model.model.1.bn_l.running_mean"],
        "architecture LaMa, not a SwinIR; it fills",
    ),
    "LaMa in parallel": (
        ["module.net.model.1.ffc.convl2l.weight"],
        "like a LaMa, not a SwinIR .*; it fills",
    ),
    "MAT": (
        ["synthesis.first_stage.conv_first.conv.resample_filter", "mapping.fc0.weight"],
        "(like a|architecture) MAT, not a SwinIR.*; it fills",
    ),
}


@pytest.mark.parametrize("name", INPAINTERS)
def test_models_for_inpainting_are_sent_to_no_upscale_loader(name: str, tmp_path: Path) -> None:
    keys, words = INPAINTERS[name]
    path = tmp_path / "holes.safetensors"
    save_file({key: torch.zeros(3) for key in keys}, path)
    with pytest.raises(OtherNetworkError, match=rf"^holes\.safetensors: .*{words}.*") as caught:
        read_checkpoint(path)
    assert caught.value.is_upscaler is False
    assert str(caught.value).endswith("Load Upscale Model does not take it either.")


FACE_RESTORERS = {
    # name: keys of the file
    "architecture GFPGAN": ["toRGB.0.weight", "stylegan_decoder.style_mlp.1.weight"],
    "(like a|architecture) CodeFormer": ["module.idx_pred_layer.1.weight", "position_emb"],
}


@pytest.mark.parametrize("name", FACE_RESTORERS)
def test_models_for_faces_are_sent_to_no_upscale_loader(name: str, tmp_path: Path) -> None:
    path = tmp_path / "face.safetensors"
    save_file({key: torch.zeros(3) for key in FACE_RESTORERS[name]}, path)
    words = rf"^face\.safetensors: .*{name}, not a SwinIR.*; it restores single faces"
    with pytest.raises(OtherNetworkError, match=words) as caught:
        read_checkpoint(path)
    assert caught.value.is_upscaler is False


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.pth.*no such file"):
        read_checkpoint(tmp_path / "nothing.pth")


LAYER = "layers.0.residual_group.blocks.0."


def without(key: str) -> Callable[[dict[str, Tensor]], Any]:
    return lambda w: {k: v for k, v in w.items() if k != key}


def changed(key: str, change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], Any]:
    return lambda w: w | {key: change(w[key])}


NOT_A_SWINIR: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "list": (lambda w: list(w.values()), "one list, not a state dict"),
    "tensor": (lambda w: w["norm.bias"], "one tensor, not a state dict"),
    "nothing": (lambda w: {}, "no weights under names we know, only nothing"),
    "numbers": (lambda w: {"epoch": 3}, "no weights under names we know, only 'epoch'"),
    "sparse": (changed(f"{LAYER}norm1.bias", lambda t: t.to_sparse()), "no ordinary numbers"),
    "without values": (changed("norm.bias", lambda t: t.to("meta")), "no ordinary numbers"),
    "empty": (changed("conv_first.weight", lambda t: t[:0, :0].clone()), "has shape"),
    "scalar": (
        changed("upsample.0.weight", lambda t: t.sum()),
        r"'upsample.0.weight' has shape \(\)",
    ),
    "flat table": (
        changed("layers.1.residual_group.blocks.0.attn.relative_position_bias_table", torch.ravel),
        "2 dimensions expected",
    ),
    "no table": (
        without("layers.1.residual_group.blocks.0.attn.relative_position_bias_table"),
        "is missing",
    ),
    "another network": (
        lambda w: {"conv.weight": torch.zeros(3)},
        "'conv_first.weight' is missing",
    ),
    "Swin2SR": (
        lambda w: w | {f"{LAYER}attn.logit_scale": torch.zeros(2, 1, 1)},
        "looks like a Swin2SR",
    ),
    "HAT": (
        lambda w: w | {"layers.0.residual_group.overlap_attn.norm1.weight": torch.zeros(3)},
        "looks like a HAT",
    ),
    "ESRGAN": (lambda w: {"body.0.rdb1.conv1.weight": torch.zeros(3)}, "looks like an ESRGAN"),
    "no norm": (without("norm.weight"), "1 weights are missing, the first is 'norm.weight'"),
    "weights missing": (without("layers.1.conv.bias"), "1 weights.*'layers.1.conv.bias'"),
    "weights too many": (lambda w: w | {"conv_second.weight": torch.zeros(1)}, "'conv_second"),
    "transposed": (
        changed(f"{LAYER}attn.qkv.weight", lambda t: t.T.contiguous()),
        r"attn.qkv.weight' has shape \(12, 36\), \(36, 12\) expected",
    ),
    "wrong rank": (changed("conv_first.weight", lambda t: t[:, 0]), "4 dimensions expected"),
    "whole numbers": (changed("conv_first.bias", lambda t: t.to(torch.int64)), "int64"),
    "NaN": (changed(f"{LAYER}norm1.bias", lambda t: t.clone().fill_(float("nan"))), "NaN"),
    "infinite": (changed("norm.weight", lambda t: t.clone().fill_(float("inf"))), "NaN"),
    "two channels": (changed("conv_first.weight", lambda t: t[:, :2].contiguous()), "1 or 3"),
    "heads": (
        changed(f"{LAYER}attn.relative_position_bias_table", lambda t: t[:, :1].repeat(1, 5)),
        "embed_dim 12 is not divisible by num_heads 5",
    ),
}


def adam(weights: dict[str, Tensor]) -> dict[str, Any]:
    state = {name: {"exp_avg": weight} for name, weight in weights.items()}
    return {"state": state, "param_groups": [{"lr": 1e-4, "params": list(weights)}]}


NOT_A_SWINIR |= {
    "optimizer": (adam, "state of its optimizer.*net_g_latest"),
    "state of a trainer": (
        lambda w: {"epoch": 1, "optimizers": [adam(w)], "schedulers": [{}]},
        "state of its optimizer",
    ),
    "arrays": (lambda w: {k: v.numpy() for k, v in w.items()}, "NumPy arrays, not tensors"),
    "arrays deep": (lambda w: {"params": {"a": w["norm.bias"].numpy()}}, "NumPy arrays"),
    "list of averages": (
        lambda w: {"decay": 0.9, "shadow_params": list(w.values()), "num_updates": 3},
        "averages as a list without names.*ema.copy_to",
    ),
    "list of averages beside a counter": (
        lambda w: {"ema": {"shadow_params": list(w.values())}, "step": torch.tensor(3)},
        "averages as a list without names",
    ),
    "SRFormer": (
        lambda w: w | {f"{LAYER}attn.aligned_relative_position_index": torch.zeros(2)},
        "SRFormer",
    ),
    "compact": (
        lambda w: {"params": {"body.0.weight": torch.zeros(3, 3, 3, 3)}},
        "compact",
    ),
}


@pytest.mark.parametrize("name", NOT_A_SWINIR)
def test_not_a_swinir(name: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    build, words = NOT_A_SWINIR[name]
    path = tmp_path / "strange.pth"
    torch.save(build(weights), path)
    with pytest.raises(CheckpointError, match=rf"strange\.pth: .*{words}"):
        read_checkpoint(path)


HEADERS = {
    "not JSON": "{",
    "not a configuration": "[1]",
    "unknown name": json.dumps({**CONFIG.to_dict(), "dpr": 0.1}),
    "missing name": json.dumps({"scale": 2}),
    "wrong type": json.dumps({**CONFIG.to_dict(), "scale": "2"}),
    "wrong value": json.dumps({**CONFIG.to_dict(), "window_size": 7}),
}


@pytest.mark.parametrize("name", HEADERS)
def test_header_that_lies(name: str, weights: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "liar.safetensors"
    save_file(weights, path, {"swinir_config": HEADERS[name]})
    with pytest.raises(CheckpointError, match=r"liar\.safetensors"):
        read_checkpoint(path)


def test_unknown_model_name_lists_the_bundled_ones() -> None:
    with pytest.raises(CheckpointError, match=r"upscale_x3000.*bundled are"):
        load_model("upscale_x3000")
