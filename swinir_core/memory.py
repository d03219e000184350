"""How much is worked on at a time, how many bytes that takes, and how many there are."""

from __future__ import annotations

import psutil
import torch

from .config import SwinIRConfig

STRIP_MARGIN = 3
"""Rows of features beyond a strip that the convolutions of the reconstruction see: one for each
convolution at feature resolution, of which there are two at most, and less than one for all later
ones together."""

_CPU_TOKENS_A_THREAD = 512
_GPU_TOKENS = 2**16
_STRIP_ROWS = 64
_STRIP_PIXELS = 2**14


def tokens_at_once(device: torch.device) -> int:
    """Feature pixels a Swin layer runs over at a time: so many that its temporaries fit the cache
    of a CPU, or that a GPU is busy."""
    if device.type == "cpu":
        return _CPU_TOKENS_A_THREAD * torch.get_num_threads()
    return _GPU_TOKENS


def strip_rows(width: int) -> int:
    """Rows of features the reconstruction runs over at a time."""
    return max(_STRIP_ROWS, _STRIP_PIXELS // width)


def estimate_memory(
    config: SwinIRConfig,
    height: int,
    width: int,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> int:
    """Peak growth in bytes while the network runs on (batch, C, height, width) in one piece.

    Weights and the input itself are not counted. The bound: about five feature maps, and either a
    fixed number of tokens in a Swin layer or a strip of the reconstruction with the whole result.
    """
    alignment, unshuffle = config.alignment, config.start_unshuffle
    rows = -(-height // alignment) * alignment // unshuffle
    columns = -(-width // alignment) * alignment // unshuffle
    pixels = batch * rows * columns
    tokens = min(tokens_at_once(torch.device(device)), pixels)
    layer = _body_bytes(config, pixels, dtype, maps=(3, 0)) + _layer_bytes(config, tokens, dtype)
    body = _body_bytes(config, pixels, dtype, maps=(2, 3))
    strip_pixels = batch * columns * min(strip_rows(columns) + 2 * STRIP_MARGIN, rows)
    head = (
        _body_bytes(config, pixels, dtype, maps=(0, 1))
        + _strip_values(config) * strip_pixels * dtype.itemsize
        + 2 * config.in_channels * config.upscale**2 * pixels * dtype.itemsize
    )
    return max(layer, body, head)


def free_memory(device: torch.device) -> int:
    """Bytes a run may take on ``device`` now, without pushing anything else out."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return psutil.virtual_memory().available


def is_out_of_memory(error: Exception) -> bool:
    """Whether ``error`` says that memory ran out: of CUDA, MPS, or of the CPU's allocator."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error)
        for words in (
            *("out of memory", "can't allocate memory", "not enough memory"),
            *("CUBLAS_STATUS_ALLOC_FAILED", "could not create a memory"),
        )
    )


def _body_bytes(
    config: SwinIRConfig, pixels: int, dtype: torch.dtype, maps: tuple[int, int]
) -> int:
    """So many feature maps of the residual stream, and so many in the type of the arithmetic."""
    stream, arithmetic = maps
    size = stream * max(4, dtype.itemsize) + arithmetic * dtype.itemsize
    return pixels * config.embed_dim * size


def _layer_bytes(config: SwinIRConfig, tokens: int, dtype: torch.dtype) -> int:
    """The temporaries of a Swin layer: logits, and all else in multiples of the features."""
    logits = max(config.num_heads) * config.window_size**2
    return tokens * (9 * config.embed_dim + logits) * dtype.itemsize


def _strip_values(config: SwinIRConfig) -> int:
    """Values a feature pixel has in the largest maps of the reconstruction alive together."""
    if config.upsampler == "pixelshuffle":
        return 2 * config.num_feat * config.upscale**2
    if config.upsampler == "nearest+conv":
        return 3 * config.num_feat * config.upscale**2
    return config.in_channels * config.upscale**2
