"""SwinIR as spandrel has it: its network for a configuration of ours, and its names of weights.

Official names are those of the published files. Ours are the same, without the buffers; spandrel's
differ where ``_SPANDREL_NAMES`` says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..network.config import SwinIRConfig
from .recognise import BUFFER_SUFFIXES, FILLS_HOLES, ONE_FACE, before_unshuffling
from .wrapping import is_usual

_NUM_FEAT = 64
_MOST_PREFIXES = 4
"""One behind another, and side by side."""
_MOST_PARTS = 16
"""Of a state dict that holds several networks."""

_OF_FACES = ("GFPGAN", "RestoreFormer", "CodeFormer")
"""Architectures for single faces."""

_OURS_ALONE = ("scale", "in_channels", "num_feat", "mean", "task")
"""Hyper-parameters that spandrel's network does not take under these names."""

# Official name: spandrel's, in networks that begin with a pixel unshuffling.
_SPANDREL_NAMES = {
    "conv_first.1.weight": "conv_first.weight",
    "conv_first.1.bias": "conv_first.bias",
}


def official_state_dict(network: nn.Module, buffers: bool = True) -> dict[str, Tensor]:
    """The weights of spandrel's SwinIR under the official names, as published files hold them.

    The tensors are those of ``network``, not copies. ``buffers`` keeps attention masks and
    indices, which our own network does not have.
    """
    weights = dict(network.state_dict())
    if getattr(network, "start_unshuffle", 1) > 1:  # Before spandrel 0.4.2 there is none.
        for official, theirs in _SPANDREL_NAMES.items():
            weights[official] = weights.pop(theirs)
    return {k: w for k, w in weights.items() if buffers or not k.endswith(BUFFER_SUFFIXES)}


def official_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``weights`` under the official names, whether these or spandrel's are given.

    Spandrel's names differ after an unshuffling only, which shows in the channels of the first
    convolution and in those of the last.
    """
    first, last = weights.get("conv_first.weight"), weights.get("conv_last.weight")
    if first is None or first.ndim != 4:
        return dict(weights)
    image = before_unshuffling(first.shape[1])
    if image is None or (last is not None and last.shape[:1] != (image[0],)):
        return dict(weights)
    theirs = {their: official for official, their in _SPANDREL_NAMES.items()}
    return {theirs.get(name, name): weight for name, weight in weights.items()}


class Foreign(NamedTuple):
    """An architecture that is not ours."""

    name: str
    remark: str
    """Why it does not take an image alone, or not every one; empty where it does."""


def foreign_architecture(weights: Mapping[str, Tensor]) -> Foreign | None:
    """The architecture that spandrel sees in weights; None for a SwinIR and for none.

    Asks what is installed of spandrel and of its extra architectures, and loads no model.
    """
    try:
        from spandrel import MAIN_REGISTRY  # Seconds, for files that are refused anyway.
    except ImportError:
        return None
    architectures = MAIN_REGISTRY.architectures("detection")
    try:
        from spandrel_extra_arches import EXTRA_REGISTRY  # pyright: ignore[reportMissingImports]
    except ImportError:
        pass
    else:
        architectures = [*EXTRA_REGISTRY.architectures("detection"), *architectures]
    for state_dict in _without_prefixes(weights):
        for architecture in architectures:
            with suppress(Exception):  # Weights may be anything.
                if architecture.detect(state_dict):
                    known = architecture.architecture
                    # Nothing else tells without loading a model.
                    loads = str(known.load.__annotations__.get("return"))
                    masked = "MaskedImageModelDescriptor" in loads
                    remark = FILLS_HOLES if masked else ONE_FACE * (known.name in _OF_FACES)
                    return None if known.name == "SwinIR" else Foreign(known.name, remark)
    return None


def _without_prefixes(weights: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """``weights``, then those under each prefix that trainers use, then under any they all have."""
    level = [dict(weights)]
    for _ in range(_MOST_PREFIXES):
        yield from level
        level = [
            {name[len(part) + 1 :]: w for name, w in named.items() if name.startswith(f"{part}.")}
            for named in level
            for parts in [dict.fromkeys(name.partition(".")[0] for name in named)]
            for part in parts
            if len(parts) == 1 or (len(parts) < _MOST_PARTS and is_usual(part))
        ][:_MOST_PREFIXES]


def spandrel_network(config: SwinIRConfig) -> nn.Module:
    """Spandrel's network for ``config``, as it is initialised: float32, on the CPU.

    Raises ``ImportError`` where spandrel is not installed and ``ValueError`` for a configuration
    that it does not know.
    """
    from spandrel.architectures.SwinIR import SwinIR  # Seconds, for what few commands need.

    if config.upsampler in ("pixelshuffle", "nearest+conv") and config.num_feat != _NUM_FEAT:
        raise ValueError(
            f"its reconstruction has {_NUM_FEAT} channels, that of these weights {config.num_feat}"
        )
    shared = {name: v for name, v in config.to_dict().items() if name not in _OURS_ALONE}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch.meshgrid without indexing
        network = SwinIR(**shared, in_chans=config.in_channels, upscale=config.upscale)
    network.mean = torch.tensor(config.mean).view(1, -1, 1, 1)  # It knows only DIV2K's and zero.
    return network


def spandrel_with_weights(config: SwinIRConfig, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Spandrel's network with weights under the official names, in evaluation mode and frozen.

    Raises what ``spandrel_network`` raises.
    """
    names = _SPANDREL_NAMES if config.start_unshuffle > 1 else {}
    network = spandrel_network(config)
    weights = dict(network.named_buffers())
    weights |= {names.get(key, key): weight for key, weight in state_dict.items()}
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)
