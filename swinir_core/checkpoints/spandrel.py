"""Spandrel's network, the one most programs run, for any configuration of ours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..network.config import SwinIRConfig

_NUM_FEAT = 64


def spandrel_network(config: SwinIRConfig) -> nn.Module:
    """Spandrel's network for ``config``, as it is initialised: float32, on the CPU.

    Raises ``ImportError`` where spandrel is not installed and ``ValueError`` for a configuration
    that it does not know.
    """
    from spandrel.architectures.SwinIR import SwinIR  # Seconds, for what few commands need.

    if config.upsampler in ("pixelshuffle", "nearest+conv") and config.num_feat != _NUM_FEAT:
        raise ValueError(
            f"its reconstruction has {_NUM_FEAT} channels, that of these weights {config.num_feat}"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch.meshgrid without indexing
        network = SwinIR(
            img_size=config.img_size,
            patch_size=1,
            in_chans=config.in_channels,
            embed_dim=config.embed_dim,
            depths=list(config.depths),
            num_heads=list(config.num_heads),
            window_size=config.window_size,
            mlp_ratio=config.mlp_ratio,
            qkv_bias=config.qkv_bias,
            ape=config.ape,
            patch_norm=config.patch_norm,
            upscale=config.upscale,
            img_range=config.img_range,
            upsampler="" if config.upsampler == "none" else config.upsampler,
            resi_connection=config.resi_connection,
            start_unshuffle=config.start_unshuffle,
        )
    network.mean = torch.tensor(config.mean).view(1, -1, 1, 1)  # It knows only DIV2K's and zero.
    return network


def spandrel_with_weights(config: SwinIRConfig, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Spandrel's network with weights under the official names, in evaluation mode and frozen.

    Raises what ``spandrel_network`` raises.
    """
    weights = dict(state_dict)
    if config.start_unshuffle > 1:
        for kind in ("weight", "bias"):
            weights[f"conv_first.{kind}"] = weights.pop(f"conv_first.1.{kind}")
    network = spandrel_network(config)
    buffers = {name: buffer for name, buffer in network.named_buffers() if name not in weights}
    network.load_state_dict(weights | buffers)
    return network.eval().requires_grad_(False)
