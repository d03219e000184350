"""Attention within windows, paper section 3.1, equation 4."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .layers import LayerFactory
from .windows import WindowPlan

_HEAD_DIM_MULTIPLE = 16
"""Fused attention is slow, or missing, for the head dimensions 10 and 30 of official models."""


class WindowAttention(nn.Module):
    """Multi-head self-attention with a learned relative position bias."""

    def __init__(
        self, dim: int, num_heads: int, window_size: int, qkv_bias: bool, layers: LayerFactory
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.relative_position_bias_table = layers.parameter((2 * window_size - 1) ** 2, num_heads)
        self.qkv = layers.linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = layers.linear(dim, dim)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """(windows, N, C) normalised tokens and (heads, N, N) to (windows, N, C)."""
        qkv = rearrange(self.qkv(x), "b n (qkv h d) -> b n qkv h d", qkv=3, h=self.num_heads)
        return self.proj(rearrange(attention(qkv, bias), "b h n d -> b n (h d)"))

    def position_bias(self, plan: WindowPlan) -> Tensor:
        """(heads, N, N) from the bias table, where the plan is."""
        table = self.relative_position_bias_table.to(plan.bias_index.device)
        return rearrange(table[plan.bias_index], "(q k) h -> h q k", q=plan.size**2)


def attention(qkv: Tensor, bias: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt(d) + bias) v, (windows, heads, N, d).

    ``qkv`` is (windows, N, 3, heads, d) and ``bias`` (heads, N, N).
    """
    bias = bias.to(qkv.dtype)
    if bias.requires_grad:
        return _differentiable(qkv, bias)
    if qkv.device.type == "cpu" and qkv.dtype == torch.float32:
        return _channel_major(qkv, bias)
    return _fused(qkv, bias)


def _differentiable(qkv: Tensor, bias: Tensor) -> Tensor:
    """As the equation reads; fused attention knows no gradient of the bias."""
    q, k, v = rearrange(qkv, "b n qkv h d -> qkv b h n d")
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
    return logits.softmax(dim=-1).to(v.dtype) @ v


def _channel_major(qkv: Tensor, bias: Tensor) -> Tensor:
    """Batched products of (d, N) matrices: on a CPU these share the work between threads better
    than fused attention, and head dimensions of 10 and 30 cost nothing extra."""
    heads, head_dim = qkv.shape[-2:]
    q, k, v = rearrange(qkv, "b n qkv h d -> qkv (b h) d n")
    logits = torch.bmm(q.transpose(1, 2) * head_dim**-0.5, k)
    logits.unflatten(0, (-1, heads)).add_(bias)
    torch.softmax(logits, -1, out=logits)
    out = torch.bmm(v, logits.transpose(1, 2))
    return rearrange(out, "(b h) d n -> b h n d", h=heads)


def _fused(qkv: Tensor, bias: Tensor) -> Tensor:
    head_dim = qkv.shape[-1]
    padding = -head_dim % _HEAD_DIM_MULTIPLE
    if padding:
        qkv = F.pad(qkv, (0, padding))
    q, k, v = rearrange(qkv, "b n qkv h d -> qkv b h n d")
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], scale=head_dim**-0.5)
    return out[..., :head_dim]
