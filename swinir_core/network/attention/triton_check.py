"""Does the kernel compile here, and does it compute what it should?"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..windows import MASKED
from .triton_kernel import window_attention_

_ROWS, _COLUMNS, _HEADS = 2, 2, 2
"""The smallest map with windows inside, at the bottom, at the right and in the corner."""


def check(device: torch.device, dtype: torch.dtype, size: int, head_dim: int) -> None:
    """Run the kernel on regular and on shifted windows and compare with plain torch in float64.

    Raises ``ArithmeticError`` where they differ by more than rounding, and whatever Triton raises.
    """
    random = torch.Generator().manual_seed(0)
    tokens = size**2
    shape = (_ROWS * _COLUMNS * tokens, 3, _HEADS, head_dim)
    qkv = torch.randn(shape, generator=random).to(device, dtype)
    bias = torch.randn(_HEADS, tokens, tokens, generator=random).to(device)
    # The weights of the average and the average itself are rounded, each by at most eps / 2 of the
    # largest value; twice that is allowed, and in float32 what the sums of a product lose.
    allowed = 1e-5 + 2 * torch.finfo(dtype).eps * qkv[:, 2].abs().max().item()
    for shifted in (False, True):
        expected = _plain(qkv.double(), bias.double(), size, size // 2 if shifted else 0)
        result = window_attention_(qkv.clone(), bias, _ROWS, _COLUMNS, size, shifted)
        error = (result - expected).abs().max().item()
        if not error <= allowed:  # nan is a failure too.
            windows = "shifted" if shifted else "regular"
            raise ArithmeticError(f"{windows} windows are off by {error:.2g}, over {allowed:.2g}")


def _plain(qkv: Tensor, bias: Tensor, size: int, shift: int) -> Tensor:
    """Attention with the tokens of every window gathered and every mask written out."""
    pixel = torch.arange(len(qkv), device=qkv.device).view(_ROWS * size, _COLUMNS * size)
    by_windows = "(i r) (j c) -> (i j) (r c)"
    token = rearrange(pixel, by_windows, r=size, c=size).flatten().argsort()
    place = rearrange(pixel.roll((-shift, -shift), (0, 1)), by_windows, r=size, c=size)
    y, x = place // pixel.shape[1], place % pixel.shape[1]
    # On a map of at least two windows, pixels from opposite edges are farther apart than others.
    apart = torch.stack([p[:, :, None] - p[:, None] for p in (y, x)]).abs().amax(0) >= size
    q, k, v = rearrange(qkv[token[place]], "w n t h d -> t w h n d")
    mask = bias + MASKED * apart[:, None]
    out = torch.empty_like(qkv[:, 0])
    attended = F.scaled_dot_product_attention(q, k, v, mask)
    out[token[place]] = rearrange(attended, "w h n d -> w n h d")
    return out
