"""The pictures of a teacher: made once, kept in a folder, and cut into patches by every run.

A large model takes many times as long for a picture as a small one for a step of training, so each
of its pictures is used often. The folder holds one file for each crop of each photograph: the
network input and the teacher's picture of it, and the photograph where there is one. Files are
written whole, under names that follow from the contents of the photograph and the number of the
crop, in a folder named after all that decides on the pictures: so a run makes what is missing, and
nothing that is there is ever of another teacher or another degradation.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from ..files import nearest, remove_abandoned, replacing
from ..images.levels import to_floats
from .data import Pairs, Photos, Plain, to_tensors, turned
from .settings.settings import TrainConfig
from .tasks import Task
from .teacher import Teacher

IDENTITY = "identity.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Crop:
    """A crop of a photograph, and the file of the teacher's picture of it."""

    photo: int
    """Index of the photograph."""

    seed: tuple[int, int]
    """Decides on everything random: place, turn, degradation."""

    path: Path


class TeacherPictures:
    """The folder of the pictures of one teacher for one kind of damage.

    Args:
        teacher: makes the pictures.
        config: settles the folder, the size and number of the crops, and their damage.
        photos: what the crops are cut from, each at least as large as a crop.
    """

    def __init__(self, teacher: Teacher, config: TrainConfig, photos: Photos) -> None:
        self.teacher, self.photos, self.settings = teacher, photos, config.teacher
        identity = _identity(teacher, config)
        name = hashlib.sha256(identity.encode()).hexdigest()[:12]
        parent = config.teacher.pictures or config.run.out.parent / "teacher_pictures"
        self.folder = parent / f"{teacher.path.stem}-{name}"
        self.identity = identity
        self.crops = self._crops()

    def _crops(self) -> list[Crop]:
        """List all crops, the first of every photograph before the second of any."""
        lows = self.photos.inputs.paths if self.photos.inputs else ()
        digests = [
            hashlib.sha256(b"".join(path.read_bytes() for path in pair if path)).hexdigest()
            for pair in zip_longest(self.photos.paths, lows)
        ]
        return [
            Crop(photo, (int(digest, 16), number), self.folder / f"{digest[:16]}-{number}.crop")
            for number in range(self.settings.crops)
            for photo, digest in enumerate(digests)
        ]

    def missing(self) -> list[Crop]:
        """List the crops whose file is not there or not whole."""
        return [crop for crop in self.crops if not _is_whole(crop.path)]

    def check_room(self, missing: Sequence[Crop]) -> str:
        """Say what the pictures take and what is free, or raise ``ValueError``."""
        settings, folder, gib = self.settings, nearest(self.folder), 2**30
        each = _bytes_of_a_crop(settings.crop, self.photos.task)
        whole, needed = len(self.crops) * each / gib, len(missing) * each / gib
        free = shutil.disk_usage(folder).free / gib
        if whole > settings.at_most_gib:
            raise settings.fault(
                "at_most_gib",
                f"{len(self.crops):,} pictures of the teacher take {whole:.3g} GiB; raise it, or "
                "lower crops or crop",
            )
        if needed > free:
            raise ValueError(
                f"the teacher's pictures need {needed:.3g} GiB more and {folder} has {free:.3g}; "
                "make room, or name another folder by pictures under [teacher]."
            )
        return (
            f"{len(missing):,} of {len(self.crops):,} pictures of {self.teacher.path.name} are to "
            f"be made in {self.folder}: {needed:.3g} GiB of {free:.3g} GiB that are free"
        )

    def make(self, missing: Sequence[Crop], cancelled: Callable[[], bool]) -> Iterator[Crop]:
        """Make the files of crops, yielding each when it is there.

        Raises:
            Cancelled: ``cancelled`` returned ``True``; the files made so far stay.
            WriteError: the disk refuses; the files made so far stay.
            ValueError: the teacher's picture has pixels that are no numbers.
        """
        with replacing(self.folder / IDENTITY) as part:
            part.write_text(self.identity, encoding="utf-8")
        remove_abandoned(self.folder)
        for crop in missing:
            arrays = self._cut(crop)
            arrays["teacher"] = self.teacher(arrays["low"], cancelled, self.settings.keep_means)
            with replacing(crop.path) as part:
                save_file(arrays, part)
            yield crop

    def _cut(self, crop: Crop) -> dict[str, np.ndarray]:
        """Cut the network input ``low``, float32, and its truth ``photograph``, uint8.

        A share of ``untouched`` crops are pieces of the photograph as it is, for which there is no
        truth beside the teacher's.
        """
        random = np.random.default_rng(crop.seed)
        side, scale = self.settings.crop, self.photos.task.scale
        untouched = random.random() < self.settings.untouched
        height, width = self.photos.sizes[crop.photo]
        step, taken = (1, side) if untouched else (scale, side * scale)
        top, left = (
            int(random.integers((end - taken) // step + 1)) * step for end in (height, width)
        )
        if untouched:
            square = self.photos.square(crop.photo, top, left, side)
            return {"low": to_floats(square)}
        low, high = self.photos.pair(crop.photo, top, left, side, random)
        return {"low": np.ascontiguousarray(low), "photograph": np.ascontiguousarray(high)}


class TaughtPatches(Pairs):
    """Patches of network inputs, and of the teacher's pictures of them.

    Every crop is equally likely, and every place in it; each patch is flipped and turned in one of
    the eight ways.

    Args:
        pictures: whose files are all there.
        patch: side of the inputs in pixels, at most that of the crops.
        batch, seed, plain: as for all ``Pairs``.
    """

    def __init__(
        self, pictures: TeacherPictures, patch: int, batch: int, seed: int, plain: Plain
    ) -> None:
        super().__init__(pictures.photos.task, patch, batch, seed, plain)
        self.paths = [crop.path for crop in pictures.crops]
        self.photograph = pictures.settings.photograph

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        """Input (C, patch, patch) and output (C, scale*patch, scale*patch), float32."""
        random = self.random(number)
        path, scale = self.paths[random.integers(len(self.paths))], self.task.scale
        with safe_open(path, "numpy") as file:
            height, width, _ = file.get_slice("low").get_shape()
            top, left = (random.integers(side - self.patch + 1) for side in (height, width))

            def cut(name: str, scale: int) -> np.ndarray:
                rows, columns = (
                    slice(start * scale, (start + self.patch) * scale) for start in (top, left)
                )
                return file.get_slice(name)[rows, columns]

            low, high = cut("low", 1), to_floats(cut("teacher", scale))
            if self.photograph and "photograph" in file.keys():  # noqa: SIM118 - no mapping
                truth = to_floats(cut("photograph", scale))
                high += np.float32(self.photograph) * (truth - high)
        way = int(random.integers(8))
        return to_tensors(*self.plain(turned(low, way), turned(high, way), random))


def _identity(teacher: Teacher, config: TrainConfig) -> str:
    """Write down all that decides on the pictures, but for the photographs."""
    settings = config.teacher
    facts: dict[str, Any] = {
        "teacher": teacher.identity(),
        "task": config.task.name,
        "scale": config.task.scale,
        "gray": config.task.gray,
        "sigma": config.degradation.sigma,
        "quality": config.degradation.quality,
        "given inputs": bool(config.data.low),
        "crop": settings.crop,
        "untouched": settings.untouched,
        "keep_means": settings.keep_means,
    }
    return json.dumps(facts, indent=2) + "\n"


def _is_whole(path: Path) -> bool:
    try:
        with safe_open(path, "numpy"):
            return True
    except (OSError, SafetensorError):
        return False


def _bytes_of_a_crop(crop: int, task: Task) -> int:
    """Compute the size of a file: the input in float32, picture and photograph in uint8."""
    return crop**2 * task.channels * (4 + 2 * task.scale**2)
