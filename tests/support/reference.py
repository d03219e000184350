"""The reference implementation, through spandrel, with weights that exercise every parameter; and
small networks of ours with the same weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from swinir_core import SwinIR, SwinIRConfig
from swinir_core.checkpoints.spandrel import official_state_dict
from swinir_core.checkpoints.spandrel import spandrel_network as fresh_reference

SMALL = SwinIRConfig(
    scale=2,
    in_channels=3,
    embed_dim=12,
    depths=(2, 2),
    num_heads=(2, 2),
    window_size=8,
    mlp_ratio=2.0,
    upsampler="pixelshuffledirect",
)
GRAY = replace(SMALL, scale=1, in_channels=1, upsampler="none", mean=None, task="")
TINY = replace(SMALL, window_size=4)
NARROW = replace(TINY, upsampler="pixelshuffle", task="", num_feat=8)

CONFIG = replace(SMALL, depths=(2, 1), num_heads=(2, 3), img_size=16)
"""That of the fixture ``weights``."""


def reference_network(config: SwinIRConfig, seed: int = 0) -> nn.Module:
    """Spandrel's network for ``config``; norms, biases and bias tables are perturbed too."""
    torch.manual_seed(seed)
    network = fresh_reference(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            spread = 0.5 if "bias_table" in name or "pos_embed" in name else 0.02
            parameter.add_(torch.randn_like(parameter) * spread)
    return network.eval()


def our_network(config: SwinIRConfig, reference: nn.Module) -> SwinIR:
    """Our network for ``config`` with the weights of ``reference``."""
    network = SwinIR(config)
    network.load_state_dict(official_state_dict(reference, buffers=False))
    return network.eval()


def network(config: SwinIRConfig) -> SwinIR:
    return our_network(config, reference_network(config)).requires_grad_(False)


class Recorder(SwinIR):
    """A network that notes what it is given."""

    def __init__(self, config: SwinIRConfig) -> None:
        super().__init__(config)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor, *_: object) -> Tensor:
        self.shapes.append(tuple(x.shape))
        return super().forward(x)
