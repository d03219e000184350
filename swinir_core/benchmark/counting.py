"""Multiply-adds of a run, counted operator by operator."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from ..network.config import SwinIRConfig
from ..network.swinir import SwinIR


def multiply_adds(config: SwinIRConfig, height: int, width: int) -> int:
    """Multiply-adds of one forward pass: convolutions, linear layers and both attention products.

    Sizes are rounded up to whole windows. The counts in the paper (table 2) leave the attention
    products out.
    """
    side = config.alignment
    # With gradients and off the CPU, attention uses explicit products, which can be counted.
    with torch.inference_mode(False), torch.enable_grad():
        network = SwinIR(config, device="meta")
        with FlopCounterMode(display=False) as flops:
            network(torch.empty(1, config.in_channels, side, side, device="meta"))
    windows = -(-height // side) * -(-width // side)
    return flops.get_total_flops() // 2 * windows
