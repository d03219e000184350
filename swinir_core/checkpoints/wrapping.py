"""What trainers put around the weights of a network and before their names, taken off.

A file may hold several networks: the last step and its running average, or those of two stages.
``choose`` takes one and says which.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..text import listed, quoted

Value = TypeVar("Value")
Place = tuple[str, ...]
"""Names around a dictionary of tensors or before a dot in their names, outermost first."""

# What only a SwinIR has at its beginning, so that what precedes it is a prefix.
_MARK = "layers.0.residual_group.blocks.0.norm1.weight"

_MOST_NETWORKS = 64
_LONGEST_NAME = 60

# Where trainers put the weights, best first, as ``_plain`` spells it.
_USUAL = (
    *("params", "statedict", "modelstatedict", "model", "netg", "generator", "network", "net"),
    *("weights", "module", "gstatedict", "netgstatedict", "modelg", "gen", "g", "student"),
)
_AVERAGES = {"average", "averaged", "averages", "avg", "swa", "shadow", "polyak", "smoothed"}
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


@dataclass(frozen=True)
class Taken(Generic[Value]):
    """The network that is taken of a file."""

    weights: dict[str, Value]
    """Under the names that the network itself gives them."""
    path: Place = ()
    others: tuple[Place, ...] = ()
    """Where the file has other networks of the same kind."""

    def __str__(self) -> str:
        """Say where the weights were, in a clause; empty where there was no choice."""
        if not self.path and not self.others:
            return ""
        text = _shown(self.path)
        if is_averaged(self.path):
            text += ", averaged weights"
        return text + (f"; not {listed([_shown(p) for p in self.others])}" if self.others else "")


def choose(groups: Mapping[Place, Mapping[str, Value]]) -> Taken[Value]:
    """Choose one network of a file, and take off what is before the names of its weights.

    Averaged weights come first, under any of the names in use for them, then the names that
    trainers give to the network, then any other. Where there is no SwinIR, the largest dictionary
    is taken as it is.

    Args:
        groups: dictionaries of tensors, by the names of those that they lie in. At least one.

    Raises:
        ValueError: there are too many networks.
    """
    named = {
        path: {_INSERTED.sub("", name): value for name, value in tensors.items()}
        for path, tensors in groups.items()
    }
    found = {
        (*path, *_parts(prefix)): (path, prefix)
        for path, tensors in named.items()
        for prefix in (name.removesuffix(_MARK) for name in tensors if name.endswith(_MARK))
    }
    if len(found) > _MOST_NETWORKS:
        raise ValueError(f"it holds {len(found)} networks, which is no model")
    if not found:
        path = min(named, key=lambda path: (*_rank(path)[:2], -len(named[path])))
        return Taken(named[path], path)
    best, *others = sorted(found, key=_rank)
    path, prefix = found[best]
    inner = tuple(
        p for at, p in found.values() if at == path and p.startswith(prefix) and p != prefix
    )
    weights = {
        name[len(prefix) :]: value
        for name, value in named[path].items()
        if name.startswith(prefix) and not (inner and name.startswith(inner))
    }
    weights = {name: value for name, value in weights.items() if not _BESIDE.match(name)}
    return Taken(weights, best, tuple(others))


def is_averaged(path: Place) -> bool:
    return any(map(_averaged, path))


def is_usual(part: str) -> bool:
    """Tell whether trainers call a network ``part``."""
    return _plain(part) in _USUAL or _averaged(part)


def _rank(path: Place) -> tuple[bool, int, tuple[int, ...], Place]:
    """The less, the better."""
    usual = dict(zip(_USUAL, range(len(_USUAL)), strict=True))
    return (
        any(_OPTIMIZER & _words(part) for part in path),
        # Counted: of {"ema": {"online_model": ..., "ema_model": ...}} the latter is the average.
        -sum(map(_averaged, path)),
        tuple(usual.get(_plain(part), len(usual)) for part in path),
        path,
    )


def _averaged(part: str) -> bool:
    # KAIR calls its average E.
    return _plain(part) == "nete" or any(
        word in _AVERAGES or word.startswith("ema") or word.endswith("ema") for word in _words(part)
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
