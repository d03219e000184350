"""Frames of a video through a ``Restoration``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from ...swinir_core.restoration.inputs import Inputs, check_inputs
from ...swinir_core.restoration.planning import RunPlan
from ...swinir_core.restoration.restorer import most_together
from ...swinir_core.restoration.sizing import Sized
from ...swinir_core.video_files.reading import Frame, Video
from .. import host
from .restoration import Restoration


def plan_frames(restoration: Restoration, video: Video) -> tuple[RunPlan | Sized, int]:
    """Load the model and plan once for all frames. Returns the plan of a pass and its frames: as
    many together as make it faster."""
    # No more than can be run together, because the memory for their results is looked at.
    most = most_together(video.height, video.width)

    def frames(count: int) -> Inputs:
        """Frames that take no memory; in colour, or a gray model would not count the channels."""
        color = torch.tensor([0.0, 0.5, 1.0])
        return Inputs(color.expand(count, video.height, video.width, 3), None)

    plan = restoration.plan(frames(most), frames(video.count))
    if isinstance(plan, Sized):
        return plan, plan.together(most)
    whole = len(plan.tiles) == 1
    at_once = max(plan.at_once // plan.runs_of_an_image, 1) if whole else 1
    return replace(plan, selected=plan.selected[:at_once]), at_once


def restored(
    restoration: Restoration, plan: RunPlan | Sized, at_once: int, video: Video
) -> Iterator[tuple[Frame, Tensor]]:
    """Restore the frames of a video, ``at_once`` together; yield each with its result
    (h, w, 3)."""
    frames, done, progress = video.frames(), 0, host.Progress()

    def advance(pixels: int, of: int) -> None:
        progress.advance(done + len(batch) * pixels / of, max(video.count, done + len(batch)))

    while batch := list(islice(frames, at_once)):
        host.interrupted()
        inputs = check_inputs(torch.stack([frame.pixels for frame in batch]))
        if isinstance(plan, RunPlan):  # The last frames may be fewer.
            plan = replace(plan, selected=plan.selected[: len(batch)])
        results = restoration.restore(inputs, plan, progress, advance)
        for frame, result in zip(batch, results, strict=True):
            yield frame, result
            host.interrupted()
        done += len(batch)
