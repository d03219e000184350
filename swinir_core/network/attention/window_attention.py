"""Attention within windows, paper section 3.1, equation 4, and the choice of how to compute it.

All paths give the same result; which one runs is decided here and nowhere else:

- without gradients on a CPU: PyTorch's ``fused`` attention in float32 for heads of 16 channels or a
  multiple (the bundled models), which is 1.1 to 1.2 times as fast as ``channel_major`` products are
  over the whole network; for others these, for which heads of 10 or 30 channels cost nothing extra;
- without gradients elsewhere: the Triton kernel over the whole feature map where it works (it
  reads the windows, shifted ones too, from where they lie), else PyTorch's ``fused`` attention,
  which keeps the logits out of memory;
- with gradients on a CPU in float32 or wider: ``AttentionWithGradients``, which keeps no
  probabilities; elsewhere ``differentiable`` products, for fused attention gives no gradient of the
  position bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..layers import LayerFactory
from ..plan import WindowPlan
from .cpu_gradients import AttentionWithGradients
from .triton_available import usable

_HEAD_DIM_MULTIPLE = 16
"""Fused attention is slow, or missing, for the head dimensions 10 and 30 of official models."""


class WindowAttention(nn.Module):
    """Multi-head self-attention with a learned relative position bias."""

    def __init__(
        self, dim: int, num_heads: int, window_size: int, qkv_bias: bool, layers: LayerFactory
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.relative_position_bias_table = layers.parameter((2 * window_size - 1) ** 2, num_heads)
        self.qkv = layers.linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = layers.linear(dim, dim)

    def forward(self, x: Tensor, bias: Tensor, mask: Tensor | None, plan: WindowPlan) -> Tensor:
        """Attend within windows, none of which sees another.

        Args:
            x: (windows, N, C) normalised tokens, float32 or wider.
            bias: (heads, N, N), from ``position_bias``.
            mask: (N, N), or (windows, 1, N, N), added to the bias; ``None`` for nothing.
            plan: Of this forward pass.

        Returns:
            (windows, N, C) in the plan's type.
        """
        on_cpu = x.device.type == "cpu"
        weight, weight_bias = self.qkv.weight, self.qkv.bias
        if plan.keeps_graph and on_cpu and plan.dtype == x.dtype and _are_plain(self):
            weights = weight, _or_zeros(weight_bias, weight), self.proj.weight, self.proj.bias
            return AttentionWithGradients.apply(x, *weights, bias, mask, plan.windows_at_once)  # pyright: ignore[reportReturnType]
        bias = bias if mask is None else bias + mask
        x = x.to(plan.dtype)
        if on_cpu and not plan.keeps_graph and not fused_on_cpu(x.dtype, self.head_dim):
            return self.proj(channel_major(x, weight, weight_bias, bias))
        return self.by_products(differentiable if plan.keeps_graph else fused, x, bias)

    def by_products(
        self, attend: Callable[[Tensor, Tensor], Tensor], x: Tensor, bias: Tensor
    ) -> Tensor:
        """(windows, N, C) tokens in and out, by ``fused`` or ``differentiable``."""
        qkv = rearrange(self.qkv(x), "b n (qkv h d) -> qkv b h n d", qkv=3, h=self.num_heads)
        return self.proj(rearrange(attend(qkv, bias), "b h n d -> b n (h d)"))

    def runs_on_the_map(self, plan: WindowPlan) -> bool:
        """Tell whether ``attend_map`` is to be used: by the GPU kernel, without gradients."""
        device = plan.bias_index.device
        if any(plan.wrapped):  # The kernel knows no windows without a mask at the edges.
            return False
        return not plan.keeps_graph and usable(device, plan.dtype, plan.size, self.head_dim)

    def attend_map(self, qkv: Tensor, bias: Tensor, plan: WindowPlan, shifted: bool) -> Tensor:
        """Attend within the windows of whole feature maps, by the GPU kernel.

        Args:
            qkv: (T, 3C), q, k and v of all tokens in the order of the unshifted windows.
            bias: (heads, N, N).
            plan: Of this forward pass.
            shifted: Whether the windows are those of the shifted grid.

        Returns:
            (T, C), a view into ``qkv``.
        """
        from .triton_kernel import window_attention_

        qkv = qkv.view(len(qkv), 3, self.num_heads, self.head_dim)
        return window_attention_(qkv, bias, plan.rows, plan.columns, plan.size, shifted).flatten(1)

    def position_bias(self, plan: WindowPlan) -> Tensor:
        """Look up the bias of every pair of tokens: (heads, N, N), where the plan is."""
        table = self.relative_position_bias_table.to(plan.bias_index.device)
        return rearrange(table[plan.bias_index], "(q k) h -> h q k", q=plan.size**2).contiguous()


def fused_on_cpu(dtype: torch.dtype, head_dim: int) -> bool:
    """Tell whether a CPU computes attention by ``fused`` where no gradients are wanted."""
    return dtype == torch.float32 and head_dim % _HEAD_DIM_MULTIPLE == 0


def _are_plain(attention: WindowAttention) -> bool:
    """Tell whether both projections are no more than their weights, so that their being called is
    not missed: PyTorch's own, without adapters, parametrisations or hooks."""
    return all(
        type(layer) is nn.Linear
        and not layer._forward_hooks
        and not layer._forward_pre_hooks
        and not layer._backward_hooks
        and not layer._backward_pre_hooks
        for layer in (attention.qkv, attention.proj)
    )


def _or_zeros(bias: Tensor | None, weight: Tensor) -> Tensor:
    """The bias of a linear layer that may have none."""
    return weight.new_zeros(len(weight)) if bias is None else bias


def differentiable(qkv: Tensor, bias: Tensor) -> Tensor:
    """Compute softmax(q kᵀ / sqrt(d) + bias) v as the equation reads.

    ``qkv`` is (3, windows, heads, N, d), ``bias`` (heads, N, N) or (windows, heads, N, N); returns
    (windows, heads, N, d).
    """
    q, k, v = qkv
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
    return logits.softmax(dim=-1).to(v.dtype) @ v


def fused(qkv: Tensor, bias: Tensor) -> Tensor:
    """Compute attention by PyTorch's own kernels: (3, windows, heads, N, d) and (heads, N, N) to
    (windows, heads, N, d)."""
    head_dim = qkv.shape[-1]
    padding = -head_dim % _HEAD_DIM_MULTIPLE
    q, k, v = F.pad(qkv, (0, padding)) if padding else qkv
    bias = bias.to(qkv.dtype)
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], scale=head_dim**-0.5)
    return out[..., :head_dim]


def channel_major(x: Tensor, weight: Tensor, weight_bias: Tensor | None, bias: Tensor) -> Tensor:
    """Compute attention from tokens, the projection to q, k and v included.

    Weights times transposed tokens give q, k and v as (d, N) matrices, the layout the products
    want, with nothing to permute. Logits are float32 whatever the type of ``x``.

    Args:
        x: (windows, N, C).
        weight, weight_bias: (3C, C) and (3C,) of the projection.
        bias: (heads, N, N) to add to the logits.

    Returns:
        (windows, N, C).
    """
    windows, tokens, dim = x.shape
    q, k, v = (
        part.view(windows * len(bias), -1, tokens) for part in _project(x, weight, weight_bias)
    )
    logits = x.new_empty(windows, *bias.shape, dtype=torch.float32).copy_(bias).flatten(0, 1)
    logits.baddbmm_(q.mT, k, alpha=q.shape[1] ** -0.5)
    torch.softmax(logits, -1, out=logits)
    out = torch.bmm(v, logits.mT).view(windows, dim, tokens)
    return x.new_empty(x.shape).copy_(out.mT)


def _project(x: Tensor, weight: Tensor, bias: Tensor | None) -> Sequence[Tensor]:
    """(windows, N, C) to q, k and v, (windows, C, N) float32 each."""
    windows, count, dim = x.shape
    weight = weight.to(x.dtype)
    bias = _or_zeros(bias, weight).to(x.dtype)
    if x.dtype == torch.float32:
        return [
            torch.baddbmm(part_bias[:, None], part.expand(windows, -1, -1), x.mT)
            for part, part_bias in zip(weight.chunk(3), bias.chunk(3), strict=True)
        ]
    # In other types the batched product would copy the weights for every window.
    qkv = torch.addmm(bias[:, None], weight, x.flatten(0, 1).T)
    out = x.new_empty(3, windows, dim, count, dtype=torch.float32)
    return out.copy_(rearrange(qkv, "(qkv c) (w n) -> qkv w c n", qkv=3, w=windows)).unbind()
