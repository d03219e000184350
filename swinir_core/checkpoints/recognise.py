"""State dict to configuration: each hyper-parameter is read from the weights alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import count

from torch import Tensor

from ..errors import OtherNetworkError
from ..network.config import SwinIRConfig

MASK_SUFFIX = ".attn_mask"
BUFFER_SUFFIXES = (MASK_SUFFIX, ".relative_position_index")
"""Of what the reference implementation saves beside weights, and we compute where it is needed."""

_USUAL_PATCH = 64
_MOST_WINDOWS = 512
"""Along a side of a training patch; more are no patch."""

_LAYER = "layers.{}.residual_group.blocks.{}."
_ANY_LAYER = re.compile(r"layers\.\d+\.residual_group\.blocks\.\d+\.")

_OTHER_NETWORKS = (
    ("model.diffusion_model.", "a diffusion checkpoint"),
    ("lora_", "a LoRA"),
    ("encoder.down.", "a VAE"),
    ("text_model.", "a text encoder"),
)
"""Other networks in folders of models, by names that only their weights have."""

_OTHER_UPSCALERS = (
    ("attn.logit_scale", "a Swin2SR"),
    ("overlap_attn.", "a HAT"),
    ("attn.aligned_relative_position_index", "an SRFormer"),
    ("mlp.dwconv.depthwise_conv.", "an SRFormer"),
    ("rdb1.", "an ESRGAN (RRDB)"),
    ("RDB1.", "an ESRGAN (RRDB)"),
    ("residual_layer.0.", "an OmniSR"),
    ("body.0.weight", "a compact (SRVGG) upscaler"),
    ("encoder_level1.0.attn.temperature", "a Restormer"),
    ("refine_net.0.0.weight_orig", "a DDColor"),
    ("stage3_orsnet.", "an MPRNet"),
    ("body.0.body.0.dau_top.", "a MIRNetv2"),
    ("quantize_group.0.", "a FeMaSR"),
    ("weight_predictor.blocks.", "an AdaCode"),
)
"""Of the rest, what spandrel does not know by itself or only with its saved buffers."""

_INPAINTERS = (
    ("synthesis.first_stage.", "a MAT"),
    ("ffc.convl2l.", "a LaMa"),
)
FILLS_HOLES = "it fills holes under a mask, so ComfyUI's Load Upscale Model does not take it either"
"""Said of models for inpainting, which lie in the same folders."""

_FACE_RESTORERS = (("idx_pred_layer.1.weight", "a CodeFormer"),)
ONE_FACE = "it restores single faces, cut out and aligned, so no node of this pack runs it"
"""Said of models for faces, likewise."""


def recognise(state_dict: Mapping[str, Tensor]) -> SwinIRConfig:
    """The configuration of a bare SwinIR state dict under the official names.

    Buffers are used where they are present and missed nowhere. ``img_range`` and the mean cannot
    be seen in weights: window 7 means range 255, as in the official JPEG models. Raises
    ``ValueError`` saying what is missing or wrong.
    """
    _refuse_other_networks(state_dict)

    # After a pixel unshuffling the first convolution is the second module of a sequence, and has
    # the image's channels times the square of the factor.
    unshuffled = "conv_first.1.weight" in state_dict
    first = "conv_first.1.weight" if unshuffled else "conv_first.weight"
    embed_dim, in_channels, _, _ = _shape(state_dict, first, 4)
    start_unshuffle = 1
    if unshuffled:
        image = before_unshuffling(in_channels)
        if image is None:
            raise ValueError(f"{first!r} takes {in_channels} channels, no unshuffled image")
        in_channels, start_unshuffle = image

    # A window of side w has (2w - 1)^2 relative positions.
    positions, _ = _shape(state_dict, f"{_LAYER.format(0, 0)}attn.relative_position_bias_table", 2)
    window_size = (math.isqrt(positions) + 1) // 2

    # RSTBs and the layers in each are numbered from 0 without gaps.
    layers = {match[0] for match in map(_ANY_LAYER.match, state_dict) if match}
    depths: list[int] = []
    while _LAYER.format(len(depths), 0) in layers:
        depths.append(next(i for i in count() if _LAYER.format(len(depths), i) not in layers))

    tables = (f"{_LAYER.format(i, 0)}attn.relative_position_bias_table" for i in range(len(depths)))
    num_heads = tuple(_shape(state_dict, table, 2)[1] for table in tables)

    hidden_dim, _ = _shape(state_dict, f"{_LAYER.format(0, 0)}mlp.fc1.weight", 2)

    # Each reconstruction module has a convolution that no other has.
    num_feat, upscale = 64, 1
    if "conv_up1.weight" in state_dict:
        upsampler = "nearest+conv"
        upscale = 2 ** sum(f"conv_up{i}.weight" in state_dict for i in (1, 2, 3))
    elif "conv_before_upsample.0.weight" in state_dict:
        upsampler = "pixelshuffle"
        for key in state_dict:
            if key.startswith("upsample.") and key.endswith(".weight"):
                channels_out, channels_in, _, _ = _shape(state_dict, key, 4)
                upscale *= math.isqrt(channels_out // channels_in)
    elif "upsample.0.weight" in state_dict:
        upsampler = "pixelshuffledirect"
        upscale = math.isqrt(_shape(state_dict, "upsample.0.weight", 4)[0] // in_channels)
    else:
        upsampler = "none"
    if "conv_before_upsample.0.weight" in state_dict:
        num_feat = _shape(state_dict, "conv_before_upsample.0.weight", 4)[0]
    if upscale % start_unshuffle:
        raise ValueError(f"it enlarges by {upscale} after shrinking by {start_unshuffle}")

    # The training patch: from the position embedding, else from a saved mask, else the usual 64.
    if "absolute_pos_embed" in state_dict:
        img_size = math.isqrt(_shape(state_dict, "absolute_pos_embed", 3)[1])
    else:
        masks = [tuple(w.shape) for key, w in state_dict.items() if key.endswith(MASK_SUFFIX)]
        sizes = [size for shape in masks if (size := _patch_of(shape, window_size))]
        img_size = max(sizes, default=max(_USUAL_PATCH, 2 * window_size))

    return SwinIRConfig(
        scale=upscale // start_unshuffle,
        in_channels=in_channels,
        embed_dim=embed_dim,
        depths=tuple(depths),
        num_heads=num_heads,
        window_size=window_size,
        mlp_ratio=hidden_dim / embed_dim,
        upsampler=upsampler,
        resi_connection="1conv" if "conv_after_body.weight" in state_dict else "3conv",
        img_range=255.0 if window_size == 7 else 1.0,
        qkv_bias=f"{_LAYER.format(0, 0)}attn.qkv.bias" in state_dict,
        patch_norm="patch_embed.norm.weight" in state_dict,
        ape="absolute_pos_embed" in state_dict,
        img_size=img_size,
        start_unshuffle=start_unshuffle,
        num_feat=num_feat,
    )


def guesses(config: SwinIRConfig, state_dict: Mapping[str, Tensor]) -> dict[str, str]:
    """Find what of ``recognise(state_dict)`` no weight tells, with why it was taken; for people."""
    window = "of the official models those for JPEG, and no others, have windows of 7"
    mean = "that of DIV2K" if config.in_channels == 3 else "0"
    found = {
        "img_range": f"{config.img_range:g}: {window}",
        "mean": f"{mean}, as in the official models",
    }
    if config.upsampler == "none":
        found["task"] = f"{config.task}: {window}"
    if not any(key.endswith(MASK_SUFFIX) for key in state_dict):
        found["shifts"] = "every second layer, though the file has no masks"
    return found


def _patch_of(mask: tuple[int, ...], window_size: int) -> int | None:
    """Side of the training patch that a mask of this shape was made for, one window a row; None
    where it says nothing of the kind.

    That a mask was saved means that its layer shifts, whatever the shape: a layer that never does
    has none. So a patch of a single window is no answer. Files with index tables and without any
    mask shift as well, as spandrel has it: trainers that make masks when they need them save files
    like that, and of networks trained on patches of one window none has been seen.
    """
    tokens = window_size**2
    side = math.isqrt(mask[0]) if mask[1:] == (tokens, tokens) else 0
    return side * window_size if 2 <= side <= _MOST_WINDOWS and side**2 == mask[0] else None


def _refuse_other_networks(state_dict: Mapping[str, Tensor]) -> None:
    kinds = (
        (_OTHER_NETWORKS, False, ""),
        (_INPAINTERS, False, f"; {FILLS_HOLES}"),
        (_FACE_RESTORERS, False, f"; {ONE_FACE}"),
        (_OTHER_UPSCALERS, True, ""),
    )
    for networks, is_upscaler, remark in kinds:
        for marker, name in networks:
            foreign = next((key for key in state_dict if f".{marker}" in f".{key}"), None)
            if foreign is not None:
                reason = f"it looks like {name}, not a SwinIR (it has {foreign!r}){remark}"
                raise OtherNetworkError(reason, is_upscaler)


def _shape(state_dict: Mapping[str, Tensor], key: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a weight that must be there, with ``dimensions`` numbers, all above zero."""
    if key not in state_dict:
        raise OtherNetworkError(f"it is not a SwinIR: {key!r} is missing")
    shape = tuple(state_dict[key].shape)
    if len(shape) != dimensions or 0 in shape:
        raise ValueError(f"{key!r} has shape {shape}, {dimensions} dimensions expected")
    return shape


def before_unshuffling(channels: int) -> tuple[int, int] | None:
    """Channels of an image, and the factor of the unshuffling that makes ``channels`` of them; None
    where none does."""
    for in_channels in (3, 1):
        factor = math.isqrt(channels // in_channels)
        if factor > 1 and in_channels * factor**2 == channels:
            return in_channels, factor
    return None
