"""Wrappers and prefixes that trainers put around the weights of a network, taken off.

A file may hold several networks: the last step and its running average, or those of two stages.
``choose`` takes one and says which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from ..text import listed, quoted
from .recognise import BUFFER_SUFFIXES

Value = TypeVar("Value")
Place = tuple[str, ...]
"""Names around a dictionary of tensors or before a dot in their names, outermost first."""

# What only a SwinIR has at its beginning, so that what precedes it is a prefix.
_MARK = "layers.0.residual_group.blocks.0.norm1.weight"

_MOST_NETWORKS = 64
_MOST_AVERAGES = 8
"""Whose names are made up; each takes a look at all names of a file, which may be very many."""
_LONGEST_NAME = 60

# Where trainers put the weights, best first, as ``_plain`` spells it.
_USUAL = (
    *("params", "statedict", "modelstatedict", "model", "netg", "generator", "network", "net"),
    *("weights", "module", "gstatedict", "netgstatedict", "modelg", "gen", "g", "student"),
)
_AVERAGES = ("ema", "average", "averaged", "averages", "avg", "swa", "shadow", "polyak", "smoothed")
# Adam's ``exp_avg`` is no averaged network, though it may have the names of one.
_OPTIMIZER = {"optimizer", "optimizers", "optim", "opt", "exp", "momentum", "grad", "grads"}

# What torch.compile, FSDP and checkpointing put anywhere into a name.
_INSERTED = re.compile(
    r"(?:(?<=\.)|^)"
    r"(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_forward_module)\."
)
# Counters of averages and modules of a trainer's own, where it saves them among the weights.
_BESIDE = re.compile(
    r"(?:n_averaged|num_updates|decay|initted|step|global_step|epoch|iter)$"
    r"|(?:\w*loss\w*|criterion|vgg\w*|lpips|perceptual\w*|net_?d|discriminator|critic"
    r"|\w*metrics?|\w*psnr|\w*ssim|optimizers?)\."
)

# Averages kept as buffers, whose names have no dots: LitEma leaves them out, mmcv's EMAHook writes
# underscores.
_JOINTS = ("", "_")
_PARTS = re.compile(
    r"layers|residual_group|blocks|norm[12]?|attn|qkv|proj|relative_position_bias_table|mlp|fc[12]"
    r"|conv_first|conv_after_body|conv_before_upsample|conv_up[123]|conv_hr|conv_last|conv|upsample"
    r"|patch_embed|absolute_pos_embed|weight|bias|\d+"
)
"""Of the names of weights of a SwinIR."""

_UNNAMED = (
    "it holds running averages as a list without names, as torch_ema and diffusers save them, and "
    "no network to name them by; in the program that trained it call "
    "ema.copy_to(model.parameters()) and save model.state_dict()"
)


@dataclass(frozen=True)
class Taken(Generic[Value]):
    """The network that is taken of a file."""

    weights: dict[str, Value]
    """Under the names that the network itself gives them."""
    path: Place = ()
    others: tuple[Place, ...] = ()
    """Places of other networks of the same kind in the file."""
    averaged: bool = False

    def __str__(self) -> str:
        """Say where the weights were, in a clause; empty where there was no choice."""
        if not self.path and not self.others:
            return ""
        text = _shown(self.path)
        if self.averaged:
            text += ", averaged weights"
        return text + (f"; not {listed([_shown(p) for p in self.others])}" if self.others else "")


@dataclass(frozen=True)
class _Network:
    """The place of a SwinIR in a file."""

    group: Place
    """The dictionary that it lies in."""
    prefix: str
    """Beginning of the names of its weights there."""
    averages: int
    """Number of names on its path that say average; of {"ema": {"online_model": ..., "ema_model":
    ...}} the network with the higher one is the average."""

    @property
    def path(self) -> Place:
        return (*self.group, *_parts(self.prefix))


def choose(
    groups: Mapping[Place, Mapping[str, Value]],
    lists: Mapping[Place, Sequence[Value]] = MappingProxyType({}),
) -> Taken[Value]:
    """Choose one network of a file, and take off what is before the names of its weights.

    Averaged weights come first, under any of the names in use for them, then the names that
    trainers give to the network, then any other. Where there is no SwinIR, the largest dictionary
    is taken as it is.

    Args:
        groups: dictionaries of tensors, by the names of those that they lie in.
        lists: averages without names, by the same. They get the names of a network with as many
            weights, whose order is theirs. One of both is not empty.

    Raises:
        ValueError: there are too many networks, or averages that nothing names.
    """
    named = {
        path: _dotted({_INSERTED.sub("", name): value for name, value in tensors.items()})
        for path, tensors in groups.items()
    }
    found = _networks(named)
    if lists and len(found) <= _MOST_NETWORKS:
        for weights in [_weights(named, network, found) for network in found[:_MOST_AVERAGES]]:
            names = [name for name in weights if not name.endswith(BUFFER_SUFFIXES)]
            for path, values in lists.items():
                if len(values) == len(names):
                    named[path] = dict(zip(names, values, strict=True))
        found = _networks(named)
    if len(found) > _MOST_NETWORKS:
        raise ValueError(f"it holds {len(found)} networks, which is no model")
    if not found:
        largest = max(map(len, named.values()), default=0)
        if any(len(values) > largest for values in lists.values()):
            raise ValueError(_UNNAMED)
        path = min(named, key=lambda path: (*_rank(path, _count(path))[:2], -len(named[path])))
        return Taken(named[path], path, averaged=_count(path) > 0)
    best, *others = sorted(found, key=lambda network: _rank(network.path, network.averages))
    places = tuple(network.path for network in others)
    return Taken(_weights(named, best, found), best.path, places, best.averages > 0)


def _dotted(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """Put the dots back into the names of an average that has none."""
    renamed = dict(tensors)
    for joint in _JOINTS:
        mark = _MARK.replace(".", joint)
        places = [name.removesuffix(mark) for name in tensors if name.endswith(mark)]
        for before in places[:_MOST_AVERAGES]:
            prefix = f"{before}." if before and before[-1] != "." else before
            for name in [name for name in renamed if name.startswith(before)]:
                if parts := _parts_of_weight(name, len(before), joint):
                    renamed[prefix + ".".join(parts)] = renamed.pop(name)
    return renamed


def _parts_of_weight(name: str, at: int, joint: str) -> list[str]:
    """The parts of a weight's name from ``at`` on; none where it is no name of a SwinIR."""
    parts = []
    while found := _PARTS.match(name, at):
        parts.append(found[0])
        if found.end() == len(name):
            return parts
        if not name.startswith(joint, found.end()):
            break
        at = found.end() + len(joint)
    return []


def _networks(named: Mapping[Place, Mapping[str, object]]) -> list[_Network]:
    # mmengine saves the average in place of the network, and the network in place of the average.
    exchanged = {
        group
        for group, tensors in named.items()
        if group[-1:] == ("ema_state_dict",) and "steps" in tensors
    }
    networks = []
    for group, tensors in named.items():
        for prefix in (name.removesuffix(_MARK) for name in tensors if name.endswith(_MARK)):
            averages = _count((*group, *_parts(prefix)))
            # AveragedModel of torch.
            averages += f"{prefix.removesuffix('module.')}n_averaged" in tensors
            averages += (*group[:-1], "ema_state_dict") in exchanged
            networks.append(_Network(group, prefix, 0 if group in exchanged else averages))
    return networks


def _weights(
    named: Mapping[Place, Mapping[str, Value]], network: _Network, found: Iterable[_Network]
) -> dict[str, Value]:
    """The weights of a network under its own names, without those of networks inside it."""
    prefix = network.prefix
    inner = tuple(
        other.prefix
        for other in found
        if other.group == network.group
        and other.prefix.startswith(prefix)
        and other.prefix != prefix
    )
    own = {
        name[len(prefix) :]: value
        for name, value in named[network.group].items()
        if name.startswith(prefix) and not (inner and name.startswith(inner))
    }
    return {name: value for name, value in own.items() if not _BESIDE.match(name)}


def _count(path: Place) -> int:
    return sum(map(is_averaged, path))


def is_usual(part: str) -> bool:
    """Tell whether trainers call a network ``part``."""
    return _plain(part) in _USUAL or is_averaged(part)


def _rank(path: Place, averages: int) -> tuple[bool, int, tuple[int, ...], Place]:
    """The less, the better."""
    usual = dict(zip(_USUAL, range(len(_USUAL)), strict=True))
    return (
        any(_OPTIMIZER & _words(part) for part in path),
        -averages,
        tuple(usual.get(_plain(part), len(usual)) for part in path),
        path,
    )


def is_averaged(part: str) -> bool:
    """Tell whether trainers call an average of a network ``part``."""
    # KAIR calls its average E.
    return _plain(part) == "nete" or any(
        word.startswith(_AVERAGES) or word.endswith(_AVERAGES) for word in _words(part)
    )


def _words(part: str) -> set[str]:
    """``modelEMA``, ``model-ema`` and ``model_ema`` are all of two words."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", part)}


def _plain(part: str) -> str:
    return re.sub(r"[^a-z]", "", part.lower())


def _parts(prefix: str) -> Place:
    return tuple(part for part in prefix.split(".") if part)


def _shown(path: Place) -> str:
    return quoted(".".join(path), _LONGEST_NAME) or "those at the top"
