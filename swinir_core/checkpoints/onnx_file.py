"""ONNX files of a network for one size of input, for programs that run them elsewhere."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError
from ..files import replacing
from ..network.plan import WindowPlan
from ..network.swinir import SwinIR
from .checkpoint import Checkpoint

OPSET = 17
"""The first that has layer norm as one operator."""

INPUT, OUTPUT = "input", "output"


def write_onnx(path: Path, checkpoint: Checkpoint, side: int, version: str) -> None:
    """Write a network in float32 for inputs of one size, whole or not at all.

    Its input is (1, C, side, side) in 0..1 and its output (1, C, scale * side, scale * side), not
    clamped. Scale, window, task and version are in the metadata of the file.

    Args:
        path: Of the file.
        checkpoint: Configuration and weights.
        side: Of the input in pixels; more than what is lacking to whole windows.
        version: Of this package.

    Raises:
        CheckpointError: The package onnx is not installed.
        WriteError: The file cannot be written.
    """
    if importlib.util.find_spec("onnx") is None:
        raise CheckpointError(
            "writing ONNX files needs the package onnx: pip install swinir-restore[onnx]."
        )
    import onnx

    config = checkpoint.config
    model = FixedSize(checkpoint, side)
    example = torch.rand(1, config.in_channels, side, side)
    facts = {
        "scale": config.scale,
        "window": config.window_size,
        "task": config.task,
        "version": version,
        "range": "0..1, not clamped",
    }
    with replacing(path) as part, warnings.catch_warnings(), torch.no_grad():
        # Of sizes that are taken for constants, which they are, and of this exporter's age: the
        # newer one needs another package, whose versions go with those of torch.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            str(part),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=False,
        )
        graph = onnx.load(part)
        graph.producer_name, graph.producer_version = "swinir-restore", version
        onnx.helper.set_model_props(graph, {name: str(value) for name, value in facts.items()})
        onnx.checker.check_model(graph, full_check=True)
        onnx.save(graph, part)


class FixedSize(nn.Module):
    """A network for inputs of one size, of operations that every exporter knows.

    What depends on the size only is made here and becomes constants.
    """

    def __init__(self, checkpoint: Checkpoint, side: int) -> None:
        super().__init__()
        config = checkpoint.config
        self.network = SwinIR(config, _Layers).train(False).requires_grad_(False)
        self.network.load_state_dict(checkpoint.state_dict)
        self.padding, self.result = -side % config.alignment, side * config.scale
        rows = (side + self.padding) // config.start_unshuffle
        features = torch.empty(1, config.embed_dim, rows, rows)
        self.plan = WindowPlan.build(features, config.window_size, keeps_graph=True)
        # As buffers they are in the file once, else once for every layer.
        self.register_buffer("bias_index", self.plan.bias_index)
        for name, order in zip(("order", "inverse"), self.plan.order, strict=True):
            self.register_buffer(name, order)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, side, side) in 0..1 to (1, C, scale * side, scale * side), not clamped."""
        network, plan, config = self.network, self.plan, self.network.config
        mean = torch.tensor(config.mean).view(1, -1, 1, 1)
        x = F.pad(x, (0, self.padding, 0, self.padding), mode="reflect")
        x = (x - mean) * config.img_range
        shallow = plan.convolve(network.conv_first, x)
        y = network.reconstruct(network.deep_features(shallow, plan), plan)
        if config.upsampler == "none":
            y = y + x
        return (y / config.img_range + mean)[..., : self.result, : self.result]


class _Linear(nn.Linear):
    """Not ``nn.Linear`` itself, for which attention runs in a way that no exporter knows."""


class _Layers:
    Linear, Conv2d, LayerNorm = _Linear, nn.Conv2d, nn.LayerNorm
