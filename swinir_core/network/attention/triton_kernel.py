"""(Shifted-)window attention as one Triton kernel, paper section 3.1, equation 4.

Each program takes a block of queries of one window and head, reads the keys and values of that
window from where they lie among the tokens of the whole feature map, and writes the result over
its queries. The cyclic shift is arithmetic on addresses and the mask a comparison of region
numbers, so nothing is stored besides ``qkv`` and the bias. No program reads the queries of another,
and keys and values are never written, so the order in which programs run does not matter.

The module needs ``triton``: import it only where ``usable`` of this package is true.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..windows import MASKED

_SMALLEST_SIDE = 16
"""Tensor cores multiply no narrower matrices."""

_LARGEST_BLOCK = 64
"""Queries and keys of a program at a time; the logits of more would not stay in registers."""


def window_attention_(
    qkv: Tensor, bias: Tensor, rows: int, columns: int, size: int, shifted: bool
) -> Tensor:
    """softmax(q kᵀ / sqrt(d) + bias [+ mask]) v for every window and head, written over q.

    ``qkv`` is (T, 3, heads, d), contiguous: the tokens of a batch of feature maps of ``rows`` x
    ``columns`` windows of side ``size``, those of one window of the unshifted grid after another.
    ``bias`` is (heads, N, N) for the N = size² tokens of a window, of any floating type; it is
    copied where it is not contiguous. ``shifted`` moves the windows cyclically by size // 2 and
    adds -100 to the logits of tokens that only this brought together.

    Products are of the type of ``qkv`` and summed in float32, as is the softmax. Returns the view
    ``qkv[:, 0]`` (T, heads, d), allocates nothing else, and knows no gradient.

    Raises ``ValueError`` where the shapes do not belong together.
    """
    _require_shapes(qkv, bias, rows, columns, size)
    tokens, _, heads, head_dim = qkv.shape
    properties = torch.cuda.get_device_properties(qkv.device) if torch.version.hip else None
    warps = warps_for(qkv.dtype, properties and properties.warp_size)
    options = kernel_options(warps, head_dim, size, shifted)
    programs = tokens // size**2 * options["blocks"] * heads
    with torch.cuda.device_of(qkv):
        attend_window[(programs,)](qkv, bias.contiguous(), heads, rows, columns, **options)
    return qkv[:, 0]


def kernel_options(warps: int, head_dim: int, size: int, shifted: bool) -> dict[str, Any]:
    """Constants that ``attend_window`` is compiled with."""
    block = min(_side(size**2), _LARGEST_BLOCK)
    return {
        "head_dim": head_dim,
        "size": size,
        "shift": size // 2 if shifted else 0,
        "masked": MASKED,
        "blocks": -(-(size**2) // block),
        "block": block,
        "block_dim": _side(head_dim),
        "num_warps": warps,
        "num_stages": 2,
    }


# Numbers that are 1 or multiples of 16 would each be compiled for apart when first met. As it is,
# the kernel that passed the self check serves every map and number of heads.
@triton.jit(do_not_specialize=["heads", "rows", "columns"])
def attend_window(
    qkv,
    bias,
    heads,
    rows,
    columns,
    head_dim: tl.constexpr,
    size: tl.constexpr,
    shift: tl.constexpr,
    masked: tl.constexpr,
    blocks: tl.constexpr,
    block: tl.constexpr,
    block_dim: tl.constexpr,
):
    """One block of queries of one window and head; heads vary fastest, so that programs which
    share lines of memory run together."""
    tokens: tl.constexpr = size * size
    channels = heads * head_dim
    program = tl.program_id(0)
    head = program % heads
    window = program // (heads * blocks)
    query = program // heads % blocks * block + tl.arange(0, block)
    channel = tl.arange(0, block_dim)[None, :]

    # Triton declares that calling a kernel from Python never returns.
    token, query_region = locate(  # pyright: ignore[reportGeneralTypeIssues]
        query, window, rows, columns, size, shift
    )
    q_at = qkv + token[:, None] * (3 * channels) + (head * head_dim + channel)
    q_exists = (query < tokens)[:, None] & (channel < head_dim)
    q = tl.load(q_at, q_exists, 0.0)
    # Queries beyond the last share its bias: a row of nothing but -inf would be nan.
    bias_at = bias + head * tokens * tokens + tl.minimum(query, tokens - 1)[:, None] * tokens

    highest = tl.full((block,), float("-inf"), tl.float32)
    total = tl.full((block,), 0.0, tl.float32)
    out = tl.full((block, block_dim), 0.0, tl.float32)
    for start in range(0, tokens, block):
        key = start + tl.arange(0, block)
        token, key_region = locate(key, window, rows, columns, size, shift)
        k_at = qkv + token[:, None] * (3 * channels) + (channels + head * head_dim + channel)
        k_exists = (key < tokens)[:, None] & (channel < head_dim)
        k = tl.load(k_at, k_exists, 0.0)
        v = tl.load(k_at + channels, k_exists, 0.0)

        logits = tl.dot(q, tl.trans(k), input_precision="ieee") * head_dim**-0.5
        key = key[None, :]
        logits += tl.load(bias_at + key, key < tokens, float("-inf")).to(tl.float32)
        if shift > 0:
            logits += tl.where(query_region[:, None] == key_region[None, :], 0.0, masked)

        higher = tl.maximum(highest, tl.max(logits, 1))
        weights = tl.exp(logits - higher[:, None])
        fade = tl.exp(highest - higher)
        total = total * fade + tl.sum(weights, 1)
        out = out * fade[:, None] + tl.dot(weights.to(v.dtype), v, input_precision="ieee")
        highest = higher

    tl.store(q_at, (out / total[:, None]).to(q.dtype), q_exists)


@triton.jit
def locate(place, window, rows, columns, size: tl.constexpr, shift: tl.constexpr):
    """Number and region of the token at each ``place`` of a window.

    The number is int64 because the offsets made of it exceed 32 bits. Regions differ in the last
    row and column of windows, where pixels from the opposite edge of the image come in.
    """
    row = window // columns % rows
    column = window % columns
    image = window // columns // rows

    y = place // size + shift
    x = place % size + shift
    from_top = row + y // size == rows
    from_left = column + x // size == columns
    row = tl.where(from_top, 0, row + y // size)
    column = tl.where(from_left, 0, column + x // size)
    token = ((image * rows + row) * columns + column) * (size * size) + y % size * size + x % size
    return token.to(tl.int64), tl.where(from_top, 2, 0) + tl.where(from_left, 1, 0)


def warps_for(dtype: torch.dtype, amd_warp: int | None = None) -> int:
    """Warps that keep everything in registers at window 8 and head dimensions up to 32.

    float32 needs more, because its products run on the ordinary units, from registers; on AMD's
    GPUs, whose warps have ``amd_warp`` threads, 512 threads in all.
    """
    if dtype != torch.float32:
        return 4
    return 512 // amd_warp if amd_warp else 8


def _side(length: int) -> int:
    """The power of two that holds ``length``: Triton knows no other sides."""
    return max(1 << (length - 1).bit_length(), _SMALLEST_SIDE)


def _require_shapes(qkv: Tensor, bias: Tensor, rows: int, columns: int, size: int) -> None:
    if qkv.ndim != 4 or qkv.shape[1] != 3 or not qkv.is_contiguous():
        raise ValueError(
            f"qkv must be (T, 3, heads, d) and contiguous; it is {tuple(qkv.shape)} with strides "
            f"{qkv.stride()}."
        )
    if len(qkv) % (rows * columns * size**2):
        raise ValueError(
            f"{len(qkv)} tokens are no whole number of maps of {rows} x {columns} windows of "
            f"{size} x {size} tokens."
        )
    if bias.shape != (qkv.shape[2], size**2, size**2):
        raise ValueError(
            f"bias must be (heads, N, N), here {(qkv.shape[2], size**2, size**2)}; it is "
            f"{tuple(bias.shape)}."
        )
