"""Window attention with gradients on a CPU, its backward pass written out.

What autograd does for all windows at once, this does for a few at a time, so that what it makes
stays in the cache; and the probabilities, which take more memory than all else, are not kept but
made again. The gradients are the same to within rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.amp.autocast_mode import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

_LOG2_E = 1 / math.log(2)


class AttentionWithGradients(torch.autograd.Function):
    """y = Wₚ (P v) + bₚ with P = softmax(S), S = qᵀk / sqrt(d) + bias + mask, head by head, where
    q, k and v are W x + b. Differentiable once.

    Tokens are columns here, (d, N) instead of (N, d), which is what the products of so narrow
    matrices want. With dA for the gradient of the loss by A, and O = P v: dO = Wₚᵀ dy, dP = dOᵀ v,
    dS = P (dP - D) where D, the sum of P dP over keys, equals that of O dO over channels
    (Dao et al. 2022, arXiv 2205.14135, section B.2); dbias is the sum of dS over windows,
    dq = k dSᵀ / sqrt(d), dk = q dS / sqrt(d), dv = dO P. What is kept: q, k, v, O and the
    logarithms L of the sums in the softmax, so that P = exp(S - L). Powers are of 2, which are
    computed faster than those of e.
    """

    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        weight_bias: Tensor,
        proj: Tensor,
        proj_bias: Tensor,
        bias: Tensor,
        mask: Tensor | None,
        at_once: int,
    ) -> Tensor:
        """(windows, N, C) to the same.

        ``weight`` is (3C, C), ``proj`` (C, C), ``bias`` (heads, N, N); ``mask`` is
        (windows, 1, N, N), to which no gradient flows, and ``at_once`` a number of windows.
        """
        windows, count, dim = x.shape
        qkv = x.new_empty(3, windows, dim, count)
        attended, out = x.new_empty(windows, dim, count), torch.empty_like(x)
        log_sums = x.new_zeros(windows, len(bias), count, 1)
        room = x.new_empty(min(at_once, windows), *bias.shape)
        scaled = bias * _LOG2_E
        projections = list(zip(weight.chunk(3), weight_bias[:, None].chunk(3), strict=True))
        for part in _parts(windows, at_once):
            for each, (rows, start) in zip(qkv[:, part], projections, strict=True):
                torch.baddbmm(start, _for_all(rows, each), x[part].mT, out=each)
            q, k, v = (_heads(each, len(bias)) for each in qkv[:, part])
            powers = _logits(q, k, scaled, mask, log_sums, part, room)
            largest = powers.amax(-1, keepdim=True)
            sums = powers.sub_(largest).exp2_().sum(-1, keepdim=True)
            mean = attended[part]
            torch.bmm(v, powers.mT, out=mean.view_as(v)).div_(sums.mT)
            torch.add(sums.log2_(), largest, out=log_sums[part].view_as(sums))
            torch.baddbmm(proj_bias, mean.mT, _for_all(proj.T, mean), out=out[part])
        ctx.save_for_backward(x, weight, proj, bias, mask, qkv, attended, log_sums)
        ctx.at_once = at_once
        return out

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, d_out: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, weight, proj, bias, mask, qkv, attended, log_sums = ctx.saved_tensors
        windows, _, dim = x.shape
        d_x = torch.zeros_like(x)
        d_weight, d_weight_bias = x.new_zeros(3, dim, dim), x.new_zeros(3, dim)
        d_proj, d_bias = torch.zeros_like(proj), torch.zeros_like(bias)
        room, d_room = (x.new_empty(min(ctx.at_once, windows), *bias.shape) for _ in range(2))
        scaled, scale = bias * _LOG2_E, (dim // len(bias)) ** -0.5
        for part in _parts(windows, ctx.at_once):
            mean = attended[part]
            d_proj += torch.bmm(mean, d_out[part]).sum(0).T
            d_mean = torch.bmm(_for_all(proj.T, mean), d_out[part].mT)
            q, k, v = (_heads(each, len(bias)) for each in qkv[:, part])
            difference = _heads(d_mean * mean, len(bias)).sum(1).unsqueeze(-1)
            d_mean = d_mean.view_as(v)
            p = _logits(q, k, scaled, mask, log_sums, part, room).exp2_()
            ds = torch.bmm(d_mean.mT, v, out=d_room[: len(mean)].view_as(p))
            ds.sub_(difference).mul_(p)
            d_bias += ds.view(-1, *bias.shape).sum(0)
            d_qkv = (k @ ds.mT).mul_(scale), (q @ ds).mul_(scale), d_mean @ p
            for i, (each, rows) in enumerate(zip(d_qkv, weight.chunk(3), strict=True)):
                each = each.view_as(mean)
                d_weight[i] += torch.bmm(each, x[part]).sum(0)
                d_weight_bias[i] += each.sum((0, 2))
                d_x[part].baddbmm_(each.mT, _for_all(rows, each))
        d_proj_bias = d_out.sum((0, 1))
        d_weights = d_weight.flatten(0, 1), d_weight_bias.flatten(), d_proj, d_proj_bias
        return d_x, *d_weights, d_bias, None, None


def _parts(count: int, at_once: int) -> Iterator[slice]:
    return (slice(start, start + at_once) for start in range(0, count, at_once))


def _for_all(weight: Tensor, windows: Tensor) -> Tensor:
    return weight.expand(len(windows), -1, -1)


def _heads(windows: Tensor, heads: int) -> Tensor:
    """(windows, C, N) to (windows * heads, d, N)."""
    return windows.view(len(windows) * heads, -1, windows.shape[-1])


def _logits(
    q: Tensor,
    k: Tensor,
    scaled: Tensor,
    mask: Tensor | None,
    log_sums: Tensor,
    part: slice,
    room: Tensor,
) -> Tensor:
    """log2(e) (qᵀk / sqrt(d) + bias + mask) - log_sums, (windows * heads, N, N), in ``room``.

    ``scaled`` is log2(e) bias, ``mask`` and ``log_sums`` are of all windows, q and k of those in
    ``part``.
    """
    logits = torch.sub(scaled, log_sums[part], out=room[: len(log_sums[part])])
    if mask is not None:
        logits.add_(mask[part], alpha=_LOG2_E)
    return logits.flatten(0, 1).baddbmm_(q.mT, k, alpha=_LOG2_E * q.shape[1] ** -0.5)
