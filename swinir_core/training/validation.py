"""Scores of a network in training: those of ``swinir evaluate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ..evaluation.protocol import Protocol
from ..evaluation.scoring import mean_scores, score, untouched
from ..evaluation.test_sets import ImagePair, PixelPair, find_pairs, read_pair
from .data import given_inputs, image_paths

Item = TypeVar("Item")


def spread(items: Sequence[Item], at_most: int) -> list[Item]:
    """Choose ``at_most`` of the items, evenly spaced, or all if there are fewer."""
    count = min(len(items), at_most)
    return [items[i * len(items) // count] for i in range(count)]


def read_validation(
    folder: Path, protocol: Protocol, at_most: int, low: Path | None = None
) -> list[PixelPair]:
    """Read images of a test set, evenly spread over it.

    Args:
        folder: of the good images.
        protocol: of the scores.
        at_most: number of images.
        low: folder of their inputs, if these are given.

    Raises:
        ImageError: there are no images, or one of them cannot be scored.
        ValueError: an input is missing.
    """
    if low is None:
        pairs = find_pairs(folder, protocol)
    else:
        paths = image_paths([folder], [low])
        inputs = given_inputs(paths, [folder], [low], protocol.scale)
        pairs = [ImagePair(path.name, path, inputs[path], 0) for path in paths]
    return [read_pair(pair, protocol) for pair in spread(pairs, at_most)]


def baseline(images: Sequence[PixelPair], protocol: Protocol) -> dict[str, float]:
    """Mean scores of the inputs themselves."""
    return mean_scores([score(untouched(low, protocol), high, protocol) for low, high in images])
