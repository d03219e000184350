"""How many bytes a run needs, and how many there are."""

from __future__ import annotations

import psutil
import torch

from .config import SwinIRConfig


def estimate_memory(
    config: SwinIRConfig,
    height: int,
    width: int,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
) -> int:
    """Peak growth in bytes while the network runs on (batch, C, height, width) in one piece.

    Weights and the input itself are not counted. The peak is either in the attention of a layer
    or in the last enlargement of the reconstruction module, each a number of values per pixel.
    """
    alignment = config.alignment
    padded = -(-height // alignment) * -(-width // alignment) * alignment**2
    feature_pixels = batch * padded // config.start_unshuffle**2
    stream_bytes = max(4, dtype.itemsize)
    body = _attention_values(config) * dtype.itemsize + 2 * config.embed_dim * stream_bytes
    head = _reconstruction_values(config) * dtype.itemsize
    return feature_pixels * max(body, head)


def free_memory(device: torch.device) -> int:
    """Bytes a run may take on ``device`` now, without pushing anything else out."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return psutil.virtual_memory().available


def _attention_values(config: SwinIRConfig) -> int:
    """Per feature pixel: logits and their softmax; shallow features, windows, q, k and v."""
    window_area = config.window_size**2
    return 2 * max(config.num_heads) * window_area + 8 * config.embed_dim


def _reconstruction_values(config: SwinIRConfig) -> int:
    """Per feature pixel: the largest feature maps alive together at full output size."""
    feat, upscale = config.num_feat, config.upscale
    if config.upsampler == "pixelshuffle":
        factor = 3 if upscale == 3 else 2
        return 2 * feat * upscale**2 + feat * (upscale // factor) ** 2 + 2 * config.embed_dim
    if config.upsampler == "nearest+conv":
        return 3 * feat * upscale**2 + 2 * config.embed_dim
    return 3 * config.in_channels * upscale**2 + 2 * config.embed_dim
