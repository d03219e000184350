"""Scores of a network in training: those of ``swinir evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ..evaluation.protocol import Protocol
from ..evaluation.scoring import mean_scores, score, untouched
from ..evaluation.test_sets import PixelPair, find_pairs, read_pair

Item = TypeVar("Item")


def spread(items: Sequence[Item], at_most: int) -> list[Item]:
    """Choose ``at_most`` of the items, evenly spaced, or all if there are fewer."""
    count = min(len(items), at_most)
    return [items[i * len(items) // count] for i in range(count)]


def read_validation(folder: Path, protocol: Protocol, at_most: int) -> list[PixelPair]:
    """Read at most ``at_most`` images of a test set, evenly spread over it.

    Raises ``ImageError`` for a set without images, and when one of them cannot be scored.
    """
    return [read_pair(pair, protocol) for pair in spread(find_pairs(folder, protocol), at_most)]


def baseline(images: Sequence[PixelPair], protocol: Protocol) -> dict[str, float]:
    """Mean scores of the inputs themselves."""
    return mean_scores([score(untouched(low, protocol), high, protocol) for low, high in images])
