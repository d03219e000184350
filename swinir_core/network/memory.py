"""Estimate of the memory that a run of the network takes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .attention.triton_available import may_be_used
from .attention.window_attention import fused_on_cpu
from .config import SwinIRConfig
from .plan import strip_rows, threads_of, tokens_at_once

_INDEX_BYTES = 8

_LIBRARIES = 12 * 2**20
"""Bytes that libraries keep for themselves on a CPU."""

_HEAP = 1.9
"""Bytes that the heap of a CPU holds for one of a thread's temporaries, which are freed and made
again in other sizes."""

_COPIED = 1.25
"""Bytes for one of the reconstruction's strip, with the copies inside convolutions of a CPU."""


def estimate_memory(
    config: SwinIRConfig,
    height: int,
    width: int,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> int:
    """Estimate the peak growth of memory while the network runs on whole images.

    On a CPU that of the process in its first run, its resident set, by factors that were fitted to
    ``benchmarks.memory.resident``. Elsewhere that of tensors alive.

    Args:
        config: Of the network.
        height, width: Of an image, in input pixels.
        batch: Images run together.
        dtype: Type of the arithmetic.
        device: Where it runs; only asked for its kind, nothing is compiled or run on it.

    Returns:
        Bytes; weights and the input itself are not counted.
    """
    device = torch.device(device)
    parts = Parts.of(config, height, width, batch, dtype, device)
    if device.type != "cpu":
        return parts.alive
    body, head = _HEAP * (parts.layers + parts.convolution), _COPIED * parts.head
    # What one thread has freed it uses again, but no other does: the reconstruction's is the main.
    temporaries = body + head if threads_of(device) > 1 else max(body, head)
    return round(parts.maps + temporaries) + _LIBRARIES


@dataclass(frozen=True)
class Parts:
    """Bytes of the tensors of a run, by what they hold."""

    features: int
    """A feature map of the residual stream."""

    image: int
    """The input in the range that the network wants, and the indices of shifted windows."""

    result: int
    layers: int
    """Temporaries of a Swin layer for a fixed number of tokens, in every thread of a CPU; where a
    GPU kernel is used with q, k and v of all."""

    convolution: int
    """A fixed number of rows and their convolution, in every thread of a CPU."""

    head: int
    """A strip of the reconstruction."""

    @property
    def maps(self) -> int:
        """Whole maps: the shallow features, the input of an RSTB and what its layers work on; or
        two of them and the result."""
        return self.image + 2 * self.features + max(self.features, self.result)

    @property
    def alive(self) -> int:
        """Tensors alive at once, at most."""
        body = self.features + max(self.layers, self.convolution)
        return self.image + 2 * self.features + max(body, self.result + self.head)

    @classmethod
    def of(
        cls,
        config: SwinIRConfig,
        height: int,
        width: int,
        batch: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Parts:
        """Find the parts of a run; the arguments are those of ``estimate_memory``."""
        alignment, unshuffle = config.alignment, config.start_unshuffle
        rows = -(-height // alignment) * alignment // unshuffle
        columns = -(-width // alignment) * alignment // unshuffle
        pixels = batch * rows * columns
        threads = threads_of(device)
        tokens = min(threads * tokens_at_once(device), pixels)
        strip = strip_rows(batch * columns, config.window_size, device)
        strips = min(threads, -(-rows // strip))
        # Of a strip of the residual stream in the type of its convolution, and of its result.
        convolved = strips * batch * columns * min(strip + 2 * config.conv_margin, rows)
        in_convolution = 4 if dtype == torch.float16 else dtype.itemsize
        head_dim = config.embed_dim // max(config.num_heads)
        with_kernel = may_be_used(device, dtype, config.window_size, head_dim)
        whole_qkv = 3 * config.embed_dim * pixels * dtype.itemsize if with_kernel else 0
        seen_by_head = batch * columns * min(strip + 2 * config.head_margin, rows)
        return cls(
            features=pixels * config.embed_dim * max(4, dtype.itemsize),
            image=pixels * (_INDEX_BYTES + config.in_channels * unshuffle**2 * dtype.itemsize),
            result=config.in_channels * config.upscale**2 * pixels * dtype.itemsize,
            layers=_layer_bytes(config, tokens, dtype, device) + whole_qkv,
            convolution=2 * config.embed_dim * convolved * in_convolution,
            head=_head_bytes(config, seen_by_head, dtype),
        )


def _layer_bytes(
    config: SwinIRConfig, tokens: int, dtype: torch.dtype, device: torch.device
) -> int:
    """Temporaries of a Swin layer: the bias with and without mask, logits where attention is not
    fused, and the rest in multiples of the features (gathered tokens, q, k, v and their mean in
    float32; the norm and the result of attention in the type of the arithmetic)."""
    bias = max(config.num_heads) * config.window_size**4
    fused = device.type == "cpu" and fused_on_cpu(dtype, config.embed_dim // max(config.num_heads))
    logits = 0 if fused else max(config.num_heads) * config.window_size**2
    features = config.embed_dim * (5 * 4 + 2 * dtype.itemsize)
    return 4 * (2 * bias + tokens * logits) + tokens * features


def _head_bytes(config: SwinIRConfig, pixels: int, dtype: torch.dtype) -> int:
    """A strip of features, and the largest maps of its reconstruction that are alive together."""
    maps = {"pixelshuffle": 2 * config.num_feat, "nearest+conv": 3 * config.num_feat}
    channels = maps.get(config.upsampler, 2 * config.in_channels)
    return (config.embed_dim + channels * config.upscale**2) * pixels * dtype.itemsize
