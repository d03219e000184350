"""Estimate of the memory that a run of the network takes."""

from __future__ import annotations

import torch

from .attention.triton_available import may_be_used
from .config import SwinIRConfig
from .plan import strip_rows, threads_of, tokens_at_once

_INDEX_BYTES = 8


def estimate_memory(
    config: SwinIRConfig,
    height: int,
    width: int,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> int:
    """Estimate the peak growth of memory while the network runs on whole images.

    The bound: three feature maps of the residual stream (the shallow features, the input of an RSTB
    and what its layers work on) with the temporaries of a Swin layer for a fixed number of tokens
    (and where a GPU kernel is used, q, k and v of all) or those of a convolution for a fixed number
    of rows, in every thread of a CPU; or two of them with the whole result and a strip of the
    reconstruction.

    Args:
        config: Of the network.
        height, width: Of an image, in input pixels.
        batch: Images run together.
        dtype: Type of the arithmetic.
        device: Where it runs; only asked for its kind, nothing is compiled or run on it.

    Returns:
        Bytes; weights and the input itself are not counted.
    """
    alignment, unshuffle = config.alignment, config.start_unshuffle
    rows = -(-height // alignment) * alignment // unshuffle
    columns = -(-width // alignment) * alignment // unshuffle
    device = torch.device(device)
    pixels = batch * rows * columns
    threads = threads_of(device)
    tokens = min(threads * tokens_at_once(device), pixels)
    strip = strip_rows(batch * columns, config.window_size, device)
    strips = min(threads, -(-rows // strip))
    result = config.in_channels * config.upscale**2 * pixels * dtype.itemsize
    feature_map = pixels * config.embed_dim * max(4, dtype.itemsize)
    head_dim = config.embed_dim // max(config.num_heads)
    with_kernel = may_be_used(device, dtype, config.window_size, head_dim)
    whole_qkv = 3 * config.embed_dim * pixels * dtype.itemsize if with_kernel else 0
    # Of a strip of the residual stream in the type of its convolution, and of the convolved strip.
    convolved = strips * batch * columns * min(strip + 2 * config.conv_margin, rows)
    body = max(
        _layer_bytes(config, tokens, dtype) + whole_qkv,
        2 * config.embed_dim * convolved * (4 if dtype == torch.float16 else dtype.itemsize),
    )
    seen_by_head = batch * columns * min(strip + 2 * config.head_margin, rows)
    head = _head_bytes(config, seen_by_head, dtype)
    return _INDEX_BYTES * pixels + max(3 * feature_map + body, 2 * feature_map + result + head)


def _layer_bytes(config: SwinIRConfig, tokens: int, dtype: torch.dtype) -> int:
    """Temporaries of a Swin layer: the bias with and without mask, logits, and the rest in
    multiples of the features (gathered tokens, q, k, v and their mean in float32; the norm and the
    result of attention in the type of the arithmetic)."""
    bias = max(config.num_heads) * config.window_size**4
    logits = max(config.num_heads) * config.window_size**2
    features = config.embed_dim * (5 * 4 + 2 * dtype.itemsize)
    return 4 * (2 * bias + tokens * logits) + tokens * features


def _head_bytes(config: SwinIRConfig, pixels: int, dtype: torch.dtype) -> int:
    """A strip of features, and the largest maps of its reconstruction that are alive together."""
    maps = {"pixelshuffle": 2 * config.num_feat, "nearest+conv": 3 * config.num_feat}
    channels = maps.get(config.upsampler, 2 * config.in_channels)
    return (config.embed_dim + channels * config.upscale**2) * pixels * dtype.itemsize
