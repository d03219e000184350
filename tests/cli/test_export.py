"""Models written as ONNX, run by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from swinir_core import Checkpoint, SwinIR, SwinIRConfig, write_checkpoint
from swinir_core.checkpoints.onnx_file import OPSET, write_onnx
from swinir_core.cli.main import main

TASKS = {
    "classical_sr": {"scale": 3, "upsampler": "pixelshuffle"},
    "lightweight_sr": {"scale": 2, "upsampler": "pixelshuffledirect"},
    "real_sr": {"scale": 4, "upsampler": "nearest+conv", "resi_connection": "3conv"},
    "gray_denoise": {"in_channels": 1},
    "color_denoise": {},
    "gray_jpeg": {"in_channels": 1, "window_size": 7, "img_range": 255.0},
    "color_jpeg": {"window_size": 7, "img_range": 255.0},
}


@pytest.fixture(params=TASKS)
def config(request: pytest.FixtureRequest) -> SwinIRConfig:
    values: dict = {
        **{"scale": 1, "in_channels": 3, "embed_dim": 12, "depths": (2,), "num_heads": (2,)},
        **{"window_size": 8, "mlp_ratio": 2.0, "upsampler": "none"},
    }
    config = SwinIRConfig(**values | TASKS[request.param])
    assert config.task == request.param
    return config


def save(config: SwinIRConfig, path: Path) -> SwinIR:
    torch.manual_seed(0)
    model = SwinIR(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(0, 0.1)
    write_checkpoint(path, Checkpoint(config, dict(model.state_dict()), {}))
    return model


def test_onnx_runtime_gives_what_pytorch_gives(
    config: SwinIRConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    side = 24 if config.scale == 1 else 29  # With windows of 8: none, or some padding.
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    model, path = save(config, tmp_path / "a.safetensors"), tmp_path / "a.onnx"

    status = main(
        ["export", str(tmp_path / "a.safetensors"), "--onnx", str(path), "--tile", str(side)]
    )

    assert status == 0
    shape = f"(1, {config.in_channels}, {side}, {side}) to x{config.scale}"
    assert f"opset {OPSET}, {shape}" in capsys.readouterr().out
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = torch.rand(1, config.in_channels, side, side)
    (result,) = session.run(["output"], {"input": image.numpy()})
    assert result.std() > 0.1
    assert (torch.from_numpy(result) - model(image)).abs().max() < 1e-4
    graph = onnx.load(path)
    assert graph.opset_import[0].version == OPSET
    told = {entry.key: entry.value for entry in graph.metadata_props}
    assert told.pop("version")
    assert told == {
        **{"scale": str(config.scale), "window": str(config.window_size), "task": config.task},
        "range": "0..1, not clamped",
    }


def test_what_depends_on_the_size_only_is_in_the_file_once(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    sizes = []
    for depth in (2, 4):
        values: dict = {"embed_dim": 8, "depths": (depth,), "num_heads": (1,), "mlp_ratio": 1.0}
        config = SwinIRConfig(scale=1, in_channels=1, window_size=8, upsampler="none", **values)
        weights = dict(SwinIR(config).state_dict())
        write_onnx(tmp_path / "a.onnx", Checkpoint(config, weights, {}), 128, "1")
        sizes.append((tmp_path / "a.onnx").stat().st_size)
    # A layer has 17 kB of weights and position biases, and a list of all tokens 131 kB.
    assert sizes[1] - sizes[0] < 2 * 50_000


@pytest.mark.parametrize(
    ("arguments", "explanation"),
    [
        (["--onnx", "a.pth", "--tile", "64"], "must end in .onnx"),
        (["--onnx", "taken.onnx", "--tile", "64"], "taken.onnx already exists; pass --overwrite"),
        (["--onnx", "a.onnx", "--tile", "1"], "--tile 1 is too small for this model; pass 4 or"),
    ],
)
def test_wrong_usage_is_explained(
    model: str, arguments: list[str], explanation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken.onnx").touch()
    assert main(["export", model, *arguments]) == 2
    assert explanation in capsys.readouterr().err
    assert not Path("a.onnx").exists()


def test_what_to_install_is_said(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert main(["export", model, "--onnx", "a.onnx", "--tile", "16"]) == 1
    assert "needs the package onnx: pip install swinir-restore[onnx]." in capsys.readouterr().err
