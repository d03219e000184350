"""How much is worked on at a time, how many bytes that takes, and how many there are."""

from __future__ import annotations

import psutil
import torch

from .attention.triton_available import may_be_used
from .config import SwinIRConfig

CONV_MARGIN = 2
"""Rows of features beyond a strip that the convolutions of a residual connection see: two of 3x3
at most."""

HEAD_MARGIN = 3
"""Rows of features beyond a strip that the convolutions of the reconstruction see: one for each
convolution at feature resolution, of which there are two at most, and less than one for all later
ones together."""

_CPU_TOKENS_A_THREAD = 1024
_CPU_TOKENS_A_THREAD_IN_TRAINING = 4096
_GPU_TOKENS = 2**16
_STRIP_ROWS = 32
_INDEX_BYTES = 8
_CPU_STRIP_PIXELS = 2**12
_GPU_STRIP_PIXELS = 2**17

_OUT_OF_MEMORY = (
    *("out of memory", "can't allocate memory", "not enough memory", "could not create a memory"),
    *("BLAS_STATUS_ALLOC_FAILED", "rocblas_status_memory_error"),  # NVIDIA's and AMD's
    "Invalid buffer size",  # Apple's, for more than one buffer may hold
    *("OUT_OF_DEVICE_MEMORY", "OUT_OF_HOST_MEMORY", "OUT_OF_RESOURCES"),  # Intel's
    "not enough GPU video memory",  # DirectML's
)


def tokens_at_once(device: torch.device, keeps_graph: bool = False) -> int:
    """Feature pixels a Swin layer runs over at a time: so many that its temporaries fit the cache
    of a CPU, or that a GPU is busy. With gradients more, because fewer of its steps are bound by
    memory and each costs some time to begin."""
    if device.type == "cpu":
        a_thread = _CPU_TOKENS_A_THREAD_IN_TRAINING if keeps_graph else _CPU_TOKENS_A_THREAD
        return a_thread * torch.get_num_threads()
    return _GPU_TOKENS


def strip_rows(width: int, window: int, device: torch.device) -> int:
    """Rows of ``width`` feature pixels a convolution runs over at a time, in whole windows."""
    pixels = _CPU_STRIP_PIXELS if device.type == "cpu" else _GPU_STRIP_PIXELS
    return -(-max(_STRIP_ROWS, pixels // width) // window) * window


def estimate_memory(
    config: SwinIRConfig,
    height: int,
    width: int,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> int:
    """Peak growth in bytes while the network runs on (batch, C, height, width) in one piece.

    Weights and the input itself are not counted. The bound: three feature maps of the residual
    stream (the shallow features, the input of an RSTB and what its layers work on) with the
    temporaries of a Swin layer for a fixed number of tokens (and where a GPU kernel is used, q, k
    and v of all) or those of a convolution for a fixed number of rows; or two of them with the
    whole result and a strip of the reconstruction.
    """
    alignment, unshuffle = config.alignment, config.start_unshuffle
    rows = -(-height // alignment) * alignment // unshuffle
    columns = -(-width // alignment) * alignment // unshuffle
    device = torch.device(device)
    pixels = batch * rows * columns
    tokens = min(tokens_at_once(device), pixels)
    strip = strip_rows(batch * columns, config.window_size, device)
    result = config.in_channels * config.upscale**2 * pixels * dtype.itemsize
    feature_map = pixels * config.embed_dim * max(4, dtype.itemsize)
    head_dim = config.embed_dim // max(config.num_heads)
    with_kernel = may_be_used(device, dtype, config.window_size, head_dim)
    whole_qkv = 3 * config.embed_dim * pixels * dtype.itemsize if with_kernel else 0
    body = max(
        _layer_bytes(config, tokens, dtype) + whole_qkv,
        _conv_bytes(config, batch * columns * min(strip + 2 * CONV_MARGIN, rows), dtype),
    )
    head = _head_bytes(config, batch * columns * min(strip + 2 * HEAD_MARGIN, rows), dtype)
    return _INDEX_BYTES * pixels + max(3 * feature_map + body, 2 * feature_map + result + head)


def free_memory(device: torch.device) -> int:
    """Bytes a run may take on ``device`` now, without pushing anything else out; of a device that
    does not tell, such as those of DirectML, what the machine has free."""
    if device.type in ("cuda", "xpu"):
        backend = getattr(torch, device.type)
        allocated = backend.memory_allocated(device)
        try:
            free, _ = backend.mem_get_info(device)
        except RuntimeError:  # Some of Intel's know only how much they have in all.
            return backend.get_device_properties(device).total_memory - allocated
        return free + backend.memory_reserved(device) - allocated
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return psutil.virtual_memory().available


def release_cached_memory(device: torch.device) -> None:
    """Give back what the allocator of a GPU keeps for tensors of the size that did not fit."""
    if device.type in ("cuda", "mps", "xpu"):
        getattr(torch, device.type).empty_cache()


def is_out_of_memory(error: Exception) -> bool:
    """Whether ``error`` says that memory ran out: of a GPU of whatever make, or of the CPU."""
    if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def _layer_bytes(config: SwinIRConfig, tokens: int, dtype: torch.dtype) -> int:
    """The temporaries of a Swin layer: the bias with and without mask, logits, and all else in
    multiples of the features (gathered tokens, q, k, v and their mean in float32; the norm and what
    attention returns in the type of the arithmetic)."""
    bias = max(config.num_heads) * config.window_size**4
    logits = max(config.num_heads) * config.window_size**2
    features = config.embed_dim * (5 * 4 + 2 * dtype.itemsize)
    return 4 * (2 * bias + tokens * logits) + tokens * features


def _conv_bytes(config: SwinIRConfig, pixels: int, dtype: torch.dtype) -> int:
    """A strip of the residual stream in the type of its convolution, and what that makes of it."""
    itemsize = 4 if dtype == torch.float16 else dtype.itemsize
    return 2 * config.embed_dim * pixels * itemsize


def _head_bytes(config: SwinIRConfig, pixels: int, dtype: torch.dtype) -> int:
    """A strip of features, and the largest maps of its reconstruction that are alive together."""
    if config.upsampler == "pixelshuffle":
        values = 2 * config.num_feat * config.upscale**2
    elif config.upsampler == "nearest+conv":
        values = 3 * config.num_feat * config.upscale**2
    else:
        values = 2 * config.in_channels * config.upscale**2
    return (config.embed_dim + values) * pixels * dtype.itemsize
