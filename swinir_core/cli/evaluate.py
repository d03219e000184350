"""``swinir evaluate``: scores of a model by the paper's protocol."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..checkpoints.checkpoint import read_checkpoint
from ..checkpoints.models import build_model, find_model
from ..errors import ImageError
from ..evaluation.protocol import UNTOUCHED, Protocol, find_protocol
from ..evaluation.scoring import ImageScores, mean_scores, paper_restorer, score_image
from ..evaluation.test_sets import ImagePair, find_pairs, seed_of
from ..images.metrics import MOST_DECIBELS
from ..model_names import DEFAULT_MODEL
from ..restoration.restorer import Restorer
from ..text import shown
from .options import UsageError
from .output import aligned, report_error, sentence, write_report
from .processes import Processes, join_processes


def evaluate(args: argparse.Namespace) -> int:
    """Score every image; one that cannot be scored does not stop the others."""
    if not args.data.is_dir():
        raise UsageError(f"--data {args.data}: there is no such folder.")
    processes = join_processes()
    device = processes.device(args.device)
    name = args.model or DEFAULT_MODEL
    checkpoint = read_checkpoint(find_model(name))
    try:
        protocol = find_protocol(checkpoint.config, args.task, args.sigma, args.quality, args.gray)
    except ValueError as error:
        raise UsageError(f"{name}: {error}.") from error
    pairs = processes.agreed(lambda: find_pairs(args.data, protocol))
    dtype = getattr(torch, args.precision)
    restorer = paper_restorer(build_model(checkpoint, device, dtype), device, dtype, args.ensemble)
    scored, failed = score_all(restorer, pairs, protocol, processes)
    if processes.is_main:
        for reason in failed:
            report_error(reason)
        if scored:
            given = {
                "model": name,
                "data": str(args.data),
                "ensemble": args.ensemble,
                "precision": args.precision,
                "device": device,
                "processes": processes.count,
                "torch": torch.__version__,
            }
            table = text(scored, protocol, name, args.data)
            write_report(args.json, table, given | facts(scored, protocol, pairs))
    return 1 if failed else 0


def score_all(
    restorer: Restorer, pairs: Sequence[ImagePair], protocol: Protocol, processes: Processes
) -> tuple[list[ImageScores], list[str]]:
    """Score the images of a test set, by all ``processes`` together.

    Args:
        restorer: as ``paper_restorer`` makes it.
        pairs: the whole test set; each process scores its own images.
        protocol: how inputs are made and results compared.
        processes: with a progress bar of its own images on the main one.

    Returns:
        Scores in the order of ``pairs``, and a sentence for each image that has none.
    """
    own = processes.own(list(enumerate(pairs)))
    scored: dict[int, ImageScores] = {}
    failed: dict[int, str] = {}
    with tqdm(
        total=len(own),
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}",
        leave=False,
        disable=None if processes.is_main else True,
    ) as bar:
        for done, (place, pair) in enumerate(own):
            bar.set_description(shown(pair.name))

            def progress(pixels: int, total: int, done: int = done) -> None:
                bar.update(done + pixels / total - bar.n)

            try:
                scored[place] = score_image(restorer, pair, protocol, progress)
            except ImageError as error:
                failed[place] = sentence(error)
            except (ValueError, OSError, MemoryError, RuntimeError) as error:
                failed[place] = f"{shown(pair.high)} was not scored: {sentence(error)}"
    for theirs in processes.gathered((scored, failed)):
        scored |= theirs[0]
        failed |= theirs[1]
    return [scored[place] for place in sorted(scored)], [failed[place] for place in sorted(failed)]


def text(scored: Sequence[ImageScores], protocol: Protocol, model: str, data: Path) -> str:
    """The scores as a heading and an aligned table, means below."""
    level = f"x{protocol.scale}"
    if protocol.sigma is not None:
        level = f"sigma {protocol.sigma:g}"
    elif protocol.quality is not None:
        level = f"quality {protocol.quality}"
    colors = "Y" if protocol.enlarges else "gray" if protocol.channels == 1 else "RGB"
    heading = (
        f"{shown(model)} on {shown(data)}: {protocol.task} {level}, {len(scored)} images, {colors}"
    )
    names = protocol.metrics
    head = ["image", *names, "gain", *(f"{UNTOUCHED[protocol.task]} {name}" for name in names)]
    lines = aligned([head, *map(_row, [*scored, _mean(scored)])], left=("image",))
    lines += [
        f"{shown(image.name)} was cut into {image.tiles} tiles for want of memory, which can "
        "change its scores a little."
        for image in scored
        if image.tiles > 1
    ]
    others = [image for image in scored if _is_finite(image)]
    if len(others) < len(scored):
        line = f"inf: without any error; counts as {MOST_DECIBELS:.0f} in the mean"
        if others:
            mean = _mean(others).output[names[0]]
            line += f", whose {names[0]} is {mean:.2f} without such images"
        lines.append(f"{line}.")
    return "\n".join([heading, "", *lines])


def facts(
    scored: Sequence[ImageScores], protocol: Protocol, pairs: Sequence[ImagePair]
) -> dict[str, Any]:
    """The scores as plain values for a JSON file. The infinite PSNR of an image restored without
    any error is null; in means it counts ``MOST_DECIBELS``, and where there is one, the means over
    all other images are given as well."""
    others = [image for image in scored if _is_finite(image)]

    def means(images: Sequence[ImageScores]) -> dict[str, dict[str, float]]:
        mean = _mean(images)
        return {"output": mean.output, UNTOUCHED[protocol.task]: mean.untouched}

    seeds = {pair.name: seed_of(pair, protocol) for pair in pairs}
    return {
        **asdict(protocol),
        "border": protocol.border,
        "inputs": "given" if any(pair.low for pair in pairs) else "made",
        "images": [
            {
                "name": image.name,
                "output": _finite(image.output),
                UNTOUCHED[protocol.task]: _finite(image.untouched),
                "tiles": image.tiles,
                "seed": seeds[image.name],
            }
            for image in scored
        ],
        "mean": means(scored),
        **({"mean_of_finite": means(others)} if 0 < len(others) < len(scored) else {}),
    }


def _mean(scored: Sequence[ImageScores]) -> ImageScores:
    output = mean_scores([image.output for image in scored])
    return ImageScores("mean", output, mean_scores([image.untouched for image in scored]), tiles=1)


def _is_finite(image: ImageScores) -> bool:
    return all(map(isfinite, (*image.output.values(), *image.untouched.values())))


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    return {name: value if isfinite(value) else None for name, value in scores.items()}


def _row(image: ImageScores) -> list[str]:
    def cells(scores: dict[str, float]) -> list[str]:
        return [
            f"{value:.4f}" if name.startswith("SSIM") else f"{value:.2f}"
            for name, value in scores.items()
        ]

    psnr, untouched = (next(iter(scores.values())) for scores in (image.output, image.untouched))
    gain = 0.0 if psnr == untouched else psnr - untouched  # Both may be infinite.
    return [shown(image.name), *cells(image.output), f"{gain:+.2f}", *cells(image.untouched)]
