"""However trainers nest and spell it, the average is taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from swinir_core import SwinIR, read_checkpoint
from tests.support.reference import TINY

AVERAGES = [
    *("ema", "params ema", "model ema", "ema model", "state dict ema", "ema state dict"),
    *("net g ema", "generator ema", "g ema", "ema weights", "ema 0999", "params ema 9999"),
    *("swa model", "model swa", "average", "averaged model", "weights avg", "polyak", "shadow"),
    *("ema params", "ema average", "model averaged", "ema of net"),
]
SPELLINGS: dict[str, Callable[[list[str]], str]] = {
    "snake": "_".join,
    "kebab": "-".join,
    "spaced": " ".join,
    "dotted": ".".join,
    "joined": "".join,
    "shouted": lambda words: "_".join(words).upper(),
    "camel": lambda words: words[0] + "".join(word.title() for word in words[1:]),
    "Pascal": lambda words: "".join(word.title() for word in words),
    "abbreviated": lambda words: "".join(
        word.upper() if word in ("ema", "swa") else word.title() for word in words
    ),
}
USUAL = ["params", "state_dict", "model", "netG", "generator", "network", "net_g", "module"]
OTHER = ["state", "0", "callbacks", "my_model", "checkpoint", "x y", "Ω"]
BESIDE = {"epoch": 3, "lr": [1e-4], "step": torch.tensor(9), "args": {"ema": 0.999, "name": "x"}}

names = st.builds(
    lambda words, spell: SPELLINGS[spell](words.split()),
    st.sampled_from(AVERAGES),
    st.sampled_from(sorted(SPELLINGS)),
)
around = st.lists(st.sampled_from(USUAL + OTHER), max_size=3)
before = st.lists(st.sampled_from([*USUAL, "_orig_mod"]), max_size=2)


def put(file: dict[str, Any], place: list[str], weights: dict[str, Tensor]) -> None:
    for name in place:
        file = file.setdefault(name, {})
    file.update(weights)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files") / "model.pth"


@given(
    average=names,
    outside=around,
    inside=around,
    last=around,
    prefixes=st.tuples(before, before),
    average_in_names=st.booleans(),
    average_first=st.booleans(),
    things=st.sets(st.sampled_from(sorted(BESIDE))),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_average_is_taken_before_the_last_step(
    average: str,
    outside: list[str],
    inside: list[str],
    last: list[str],
    prefixes: tuple[list[str], list[str]],
    average_in_names: bool,
    average_first: bool,
    things: set[str],
    file: Path,
) -> None:
    weights = SwinIR(TINY).state_dict()
    worse = {key: value + 1 for key, value in weights.items()}
    inner = [average, *prefixes[0]] if average_in_names else prefixes[0]
    place = outside if average_in_names else [*outside, average, *inside]
    networks = [(place, inner, weights), (last, prefixes[1], worse)]
    assume(place != last or inner != prefixes[1])
    contents: dict[str, Any] = {}
    for at, prefix, values in networks if average_first else networks[::-1]:
        put(contents, at, {".".join([*prefix, key]): value for key, value in values.items()})
    torch.save({name: BESIDE[name] for name in things} | contents, file)
    checkpoint = read_checkpoint(file)
    assert "averaged weights" in checkpoint.taken
    assert checkpoint.state_dict.keys() == weights.keys()
    assert all(torch.equal(checkpoint.state_dict[key], weights[key]) for key in weights)
