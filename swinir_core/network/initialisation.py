"""The weights a training run starts from."""

import torch
from torch import nn

STD = 0.02


def init_weights(model: nn.Module, seed: int = 0) -> None:
    """Give every weight its starting value, the same for the same seed.

    As in the reference implementation: linear weights and position-bias tables from a normal
    distribution of deviation 0.02 truncated at +-2, norms the identity, convolutions PyTorch's
    default. The caller's random numbers are left where they were.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d | nn.LayerNorm):
                module.reset_parameters()
        for name, parameter in model.named_parameters():
            if name.endswith(("relative_position_bias_table", "absolute_pos_embed")):
                nn.init.trunc_normal_(parameter, std=STD)
