"""Attention within windows, paper section 3.1, equation 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..layers import LayerFactory, are_plain, folded, linear_of_norm
from ..windows import WindowPlan
from .cpu_gradients import AttentionWithGradients

_HEAD_DIM_MULTIPLE = 16
"""Fused attention is slow, or missing, for the head dimensions 10 and 30 of official models."""


class WindowAttention(nn.Module):
    """Multi-head self-attention with a learned relative position bias.

    The paths give the same result. On a CPU ``channel_major`` products share the work between
    threads better than fused attention does, and heads of 10 or 30 channels cost nothing extra;
    elsewhere ``fused`` attention keeps the logits out of memory, and where a Triton kernel works it
    reads the windows, shifted ones too, from where they lie. Only ``differentiable`` gives the
    gradient of the bias, by autograd, and ``AttentionWithGradients``, its like for a CPU in
    float32 or wider.
    """

    def __init__(
        self, dim: int, num_heads: int, window_size: int, qkv_bias: bool, layers: LayerFactory
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.relative_position_bias_table = layers.parameter((2 * window_size - 1) ** 2, num_heads)
        self.qkv = layers.linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = layers.linear(dim, dim)

    def forward(
        self, x: Tensor, norm: Any, bias: Tensor, mask: Tensor | None, plan: WindowPlan
    ) -> Tensor:
        """(windows, N, C) tokens, normalised by ``norm`` first, to the same. ``bias`` is
        (heads, N, N); ``mask`` (N, N), or (windows, 1, N, N), is added to it."""
        on_cpu = x.device.type == "cpu"
        exact = plan.dtype == x.dtype and are_plain(norm, self.qkv, self.proj)
        if plan.keeps_graph and on_cpu and exact:
            weights = (*folded(norm, self.qkv), self.proj.weight, self.proj.bias)
            normal = F.layer_norm(x, x.shape[-1:], eps=norm.eps)
            return AttentionWithGradients.apply(normal, *weights, bias, mask, plan.windows_at_once)  # pyright: ignore[reportReturnType]
        bias = bias if mask is None else bias + mask
        if on_cpu and not plan.keeps_graph:
            return self.proj(channel_major(norm(x).to(plan.dtype), self.qkv, bias))
        qkv = linear_of_norm(x, norm, self.qkv, plan)
        return self.by_path(differentiable if plan.keeps_graph else fused, qkv, bias)

    def by_path(
        self, attend: Callable[[Tensor, Tensor], Tensor], qkv: Tensor, bias: Tensor
    ) -> Tensor:
        """(windows, N, 3C) and a bias to (windows, N, C), by ``fused`` or ``differentiable``."""
        qkv = rearrange(qkv, "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.num_heads)
        return self.proj(rearrange(attend(qkv, bias), "b h n d -> b n (h d)"))

    def attend_map(self, qkv: Tensor, bias: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """(T, 3C) of all tokens in window order and (heads, N, N) to (T, C), by the GPU kernel."""
        from .triton_kernel import window_attention_

        qkv = qkv.view(len(qkv), 3, self.num_heads, self.head_dim)
        return window_attention_(qkv, bias, plan.rows, plan.columns, plan.size, shifted).flatten(1)

    def position_bias(self, plan: WindowPlan) -> Tensor:
        """(heads, N, N) from the bias table, where the plan is."""
        table = self.relative_position_bias_table.to(plan.bias_index.device)
        return rearrange(table[plan.bias_index], "(q k) h -> h q k", q=plan.size**2).contiguous()


def differentiable(qkv: Tensor, bias: Tensor) -> Tensor:
    """softmax(q kᵀ / sqrt(d) + bias) v as the equation reads.

    ``qkv`` is (3, windows, heads, N, d), the result (windows, heads, N, d).
    """
    q, k, v = qkv
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
    return logits.softmax(dim=-1).to(v.dtype) @ v


def fused(qkv: Tensor, bias: Tensor) -> Tensor:
    """The same by PyTorch's own kernels."""
    head_dim = qkv.shape[-1]
    padding = -head_dim % _HEAD_DIM_MULTIPLE
    q, k, v = F.pad(qkv, (0, padding)) if padding else qkv
    bias = bias.to(qkv.dtype)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], scale=head_dim**-0.5)
    return out[..., :head_dim]


def channel_major(x: Tensor, projection: Any, bias: Tensor) -> Tensor:
    """The same from (windows, N, C) tokens, the ``projection`` to q, k and v included, to
    (windows, N, C).

    Weights times transposed tokens give q, k and v as (d, N) matrices, the layout the products
    want, with nothing to permute. Logits are float32 whatever the type of ``x``. Weights on the CPU
    are where they are computed with, so they need not be asked for through their layer.
    """
    windows, tokens, dim = x.shape
    q, k, v = (
        part.view(windows * len(bias), -1, tokens)
        for part in _project(x, projection.weight, projection.bias)
    )
    logits = x.new_empty(windows, *bias.shape, dtype=torch.float32).copy_(bias).flatten(0, 1)
    logits.baddbmm_(q.mT, k, alpha=q.shape[1] ** -0.5)
    torch.softmax(logits, -1, out=logits)
    out = torch.bmm(v, logits.mT).view(windows, dim, tokens)
    return x.new_empty(x.shape).copy_(out.mT)


def _project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Sequence[Tensor]:
    """q, k and v (windows, C, N) float32 of (windows, N, C)."""
    windows, count, dim = x.shape
    weight = weight.to(x.dtype)
    bias = x.new_zeros(3 * dim) if bias is None else bias.to(x.dtype)
    if x.dtype == torch.float32:
        return [
            torch.baddbmm(part_bias[:, None], part.expand(windows, -1, -1), x.mT)
            for part, part_bias in zip(weight.chunk(3), bias.chunk(3), strict=True)
        ]
    # In other types the batched product would copy the weights for every window.
    qkv = torch.addmm(bias[:, None], weight, x.flatten(0, 1).T)
    out = x.new_empty(3, windows, dim, count, dtype=torch.float32)
    return out.copy_(rearrange(qkv, "(qkv c) (w n) -> qkv w c n", qkv=3, w=windows)).unbind()
