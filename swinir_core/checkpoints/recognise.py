"""What a state dict says about the network it belongs to.

One hyper-parameter a paragraph, each read from the weights alone. The buffers of the reference
implementation (``relative_position_index``, ``attn_mask``) are used where they are present and
missed nowhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from itertools import count

from torch import Tensor

from ..errors import OtherNetworkError
from ..network.config import MOST_LAYERS, SwinIRConfig

BUFFER_SUFFIXES = (".attn_mask", ".relative_position_index")

MOST_TENSORS = 64 + 21 * MOST_LAYERS
"""No SwinIR has more: a layer has 13 weights and 2 buffers, an RSTB of one layer 6 more."""

_FIRST_LAYER = "layers.0.residual_group.blocks.0."
_INDEX = r"(0|[1-9][0-9]{0,3})"
_RSTB = re.compile(rf"layers\.{_INDEX}\.(?:residual_group\.blocks\.{_INDEX}\.)?")

_OTHER_NETWORKS = (
    ("attn.logit_scale", "a Swin2SR"),
    ("overlap_attn.", "a HAT"),
    ("model.diffusion_model.", "a diffusion checkpoint"),
    ("lora_", "a LoRA"),
    ("rdb1.", "an ESRGAN (RRDB)"),
    ("RDB1.", "an ESRGAN (RRDB)"),
    ("encoder.down.", "a VAE"),
    ("text_model.", "a text encoder"),
    ("residual_layer.0.", "an OmniSR"),
    ("body.0.weight", "a compact (SRVGG) upscaler"),
)


def recognise(state_dict: Mapping[str, Tensor]) -> SwinIRConfig:
    """The configuration of a bare SwinIR state dict.

    ``img_range`` and the mean cannot be seen in weights: window 7 means range 255, as in the
    official JPEG models. Raises ``ValueError`` saying what is missing or wrong.
    """
    _refuse_other_networks(state_dict)

    first = "conv_first.1.weight" if "conv_first.1.weight" in state_dict else "conv_first.weight"
    embed_dim, first_channels, _, _ = _shape(state_dict, first, 4)
    in_channels, start_unshuffle = _channels(first_channels, first == "conv_first.1.weight")

    bias_rows, _ = _shape(state_dict, f"{_FIRST_LAYER}attn.relative_position_bias_table", 2)
    window_size = (math.isqrt(bias_rows) + 1) // 2

    blocks = _blocks(state_dict)
    depths = [_consecutive(blocks[i]) for i in range(_consecutive(blocks))]
    bias_table = "layers.{}.residual_group.blocks.0.attn.relative_position_bias_table"
    num_heads = [_shape(state_dict, bias_table.format(i), 2)[1] for i in range(len(depths))]

    hidden_dim, _ = _shape(state_dict, f"{_FIRST_LAYER}mlp.fc1.weight", 2)

    upsampler = _upsampler(state_dict)
    upscale = _upscale(state_dict, upsampler, in_channels)
    if upscale % start_unshuffle:
        raise ValueError(f"it enlarges by {upscale} after shrinking by {start_unshuffle}")

    num_feat = 64
    if "conv_before_upsample.0.weight" in state_dict:
        num_feat = _shape(state_dict, "conv_before_upsample.0.weight", 4)[0]

    return SwinIRConfig(
        scale=upscale // start_unshuffle,
        in_channels=in_channels,
        embed_dim=embed_dim,
        depths=tuple(depths),
        num_heads=tuple(num_heads),
        window_size=window_size,
        mlp_ratio=hidden_dim / embed_dim,
        upsampler=upsampler,
        resi_connection="1conv" if "conv_after_body.weight" in state_dict else "3conv",
        img_range=255.0 if window_size == 7 else 1.0,
        qkv_bias=f"{_FIRST_LAYER}attn.qkv.bias" in state_dict,
        patch_norm="patch_embed.norm.weight" in state_dict,
        ape="absolute_pos_embed" in state_dict,
        img_size=_img_size(state_dict, window_size),
        start_unshuffle=start_unshuffle,
        num_feat=num_feat,
    )


def _refuse_other_networks(state_dict: Mapping[str, Tensor]) -> None:
    for marker, name in _OTHER_NETWORKS:
        foreign = next((key for key in state_dict if f".{marker}" in f".{key}"), None)
        if foreign is not None:
            raise OtherNetworkError(f"it looks like {name}, not a SwinIR (it has {foreign!r})")


def _shape(state_dict: Mapping[str, Tensor], key: str, dimensions: int) -> tuple[int, ...]:
    """The shape of a weight that must be there with so many dimensions, none of them empty."""
    if key not in state_dict:
        raise OtherNetworkError(f"it is not a SwinIR: {key!r} is missing")
    shape = tuple(state_dict[key].shape)
    if len(shape) != dimensions or 0 in shape:
        raise ValueError(f"{key!r} has shape {shape}, {dimensions} dimensions expected")
    return shape


def _channels(first_channels: int, unshuffled: bool) -> tuple[int, int]:
    """Image channels and unshuffle factor, from the inputs of the first convolution."""
    if not unshuffled:
        return first_channels, 1
    for channels in (3, 1):
        factor = math.isqrt(first_channels // channels)
        if factor > 1 and channels * factor**2 == first_channels:
            return channels, factor
    raise ValueError(f"'conv_first.1.weight' takes {first_channels} channels, no unshuffled image")


def _blocks(state_dict: Mapping[str, Tensor]) -> dict[int, set[int]]:
    """The indices of the RSTBs, and of the layers in each."""
    blocks: dict[int, set[int]] = {}
    for match in filter(None, map(_RSTB.match, state_dict)):
        rstb, layer = match.groups()
        blocks.setdefault(int(rstb), set()).update([] if layer is None else [int(layer)])
    return blocks


def _consecutive(indices: Container[int]) -> int:
    """How many of them follow one another from 0 on."""
    return next(i for i in count() if i not in indices)


def _upsampler(state_dict: Mapping[str, Tensor]) -> str:
    if "conv_up1.weight" in state_dict:
        return "nearest+conv"
    if "conv_before_upsample.0.weight" in state_dict:
        return "pixelshuffle"
    if "upsample.0.weight" in state_dict:
        return "pixelshuffledirect"
    return "none"


def _upscale(state_dict: Mapping[str, Tensor], upsampler: str, in_channels: int) -> int:
    """How much the reconstruction module enlarges."""
    if upsampler == "nearest+conv":
        return 2 ** sum(f"conv_up{i}.weight" in state_dict for i in (1, 2, 3))
    if upsampler == "none":
        return 1
    if upsampler == "pixelshuffledirect":
        return math.isqrt(_shape(state_dict, "upsample.0.weight", 4)[0] // in_channels)
    upscale = 1
    for key in state_dict:
        if key.startswith("upsample.") and key.endswith(".weight"):
            channels_out, channels_in, _, _ = _shape(state_dict, key, 4)
            upscale *= math.isqrt(channels_out // channels_in)
    return upscale


def _img_size(state_dict: Mapping[str, Tensor], window_size: int) -> int:
    """Training patch size: from the embedding, else from a saved mask, else the usual 64."""
    if "absolute_pos_embed" in state_dict:
        return math.isqrt(_shape(state_dict, "absolute_pos_embed", 3)[1])
    mask = "layers.0.residual_group.blocks.1.attn_mask"
    return math.isqrt(_shape(state_dict, mask, 3)[0]) * window_size if mask in state_dict else 64
