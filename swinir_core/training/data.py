"""Training patches: photographs held in memory, cut, turned and degraded on the fly."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..errors import ImageError
from ..image_files.finding import images_in
from ..image_files.reading import open_image
from ..images.color import to_channels
from ..images.levels import to_floats
from .tasks import Task


def image_paths(folders: Sequence[Path], without: Sequence[Path] = ()) -> list[Path]:
    """Every image file that ``images_in`` finds in the folders, but not beneath the folders
    ``without``.

    Raises ``ValueError`` for a folder that is none, and where there is no image at all.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; name one that holds images.")
    left_out = {folder.resolve() for folder in without}
    paths = [
        folder / inside
        for folder in folders
        for inside in images_in(folder)
        if left_out.isdisjoint((folder / inside).resolve().parents)
    ]
    if not paths:
        names = ", ".join(str(folder) for folder in folders)
        besides = "".join(f", besides what is in {folder}" for folder in without if folder.exists())
        raise ValueError(f"{names}: no PNG, JPEG, WebP or TIFF file in there{besides}.")
    return paths


def read_pixels(path: Path, channels: int, scale: int = 1) -> np.ndarray:
    """An image file as uint8 (H, W, channels), sides cut to multiples of ``scale``.

    Alpha is dropped. Gray becomes three equal channels; colour becomes one by ``rgb_to_gray``.
    Raises ``ImageError``.
    """
    levels = to_channels(open_image(path).levels(), channels)
    height, width = (side // scale * scale for side in levels.shape[:2])
    return levels[:height, :width]


@dataclass
class Photos:
    """Photographs, in memory as uint8 (H, W, C) as far as they fit."""

    task: Task
    paths: list[Path] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """(height, width) in pixels, multiples of the scale."""

    unreadable: list[Path] = field(default_factory=list)
    """Files that hold no readable image; skipped."""

    too_small: list[Path] = field(default_factory=list)
    """Images smaller than one patch; skipped."""

    _held: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def read(
        cls, paths: Sequence[Path], task: Task, patch: int, memory: int, quiet: bool = False
    ) -> Photos:
        """Read every file once and keep as many as ``memory`` bytes hold; the others are read anew
        for each of their patches. Raises ``ValueError`` when none is usable."""
        photos = cls(task)
        for path in tqdm(paths, "reading", unit="image", disable=quiet or None):
            memory -= photos._add(path, patch * task.scale, memory)
        if not photos.paths:
            raise ValueError(
                f"none of the {len(paths)} images can be trained on: {len(photos.unreadable)} "
                f"unreadable, {len(photos.too_small)} smaller than a patch of "
                f"{patch * task.scale}x{patch * task.scale} pixels; use larger images or a "
                "smaller patch."
            )
        return photos

    def _add(self, path: Path, least: int, memory: int) -> int:
        """Returns how many bytes are now held of it."""
        try:
            pixels = read_pixels(path, self.task.channels, self.task.scale)
        except ImageError:
            self.unreadable.append(path)
            return 0
        if min(pixels.shape[:2]) < least:
            self.too_small.append(path)
            return 0
        self.paths.append(path)
        self.sizes.append((pixels.shape[0], pixels.shape[1]))
        if pixels.nbytes > memory:
            return 0
        self._held[len(self.paths) - 1] = np.ascontiguousarray(pixels)
        return pixels.nbytes

    @property
    def held(self) -> int:
        """How many are in memory."""
        return len(self._held)

    def __getitem__(self, index: int) -> np.ndarray:
        if index in self._held:
            return self._held[index]
        return read_pixels(self.paths[index], self.task.channels, self.task.scale)


class Patches(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of network input and wanted output, as many as a run takes.

    Pair ``step * batch + i`` is the ``i``-th of that step. It depends on the seed, the step and
    ``i`` alone: a resumed run, and one spread over several processes, sees the same batches.
    Every possible patch is equally likely, so a large photograph gives more of them than a small
    one; each is flipped and turned in one of the eight ways.
    """

    def __init__(self, photos: Photos, patch: int, batch: int, seed: int) -> None:
        self.photos, self.patch, self.batch, self.seed = photos, patch, batch, seed
        scale = photos.task.scale
        positions = [
            (height // scale - patch + 1) * (width // scale - patch + 1)
            for height, width in photos.sizes
        ]
        self._position_ends = np.cumsum(positions)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Input (C, patch, patch) and output (C, scale*patch, scale*patch), float32."""
        task = self.photos.task
        random = np.random.default_rng((self.seed, *divmod(number, self.batch)))
        photo, top, left = self._position(random)
        piece = cut(photo, top, left, self.patch * task.scale, task.margin * task.scale)
        piece = np.ascontiguousarray(turned(piece, int(random.integers(8))))
        low = task.degrade(piece, random)
        return _to_tensor(_without(low, task.margin)), _to_tensor(
            to_floats(_without(piece, task.margin * task.scale))
        )

    def _position(self, random: np.random.Generator) -> tuple[np.ndarray, int, int]:
        position = random.integers(self._position_ends[-1])
        index = int(np.searchsorted(self._position_ends, position, side="right"))
        scale = self.photos.task.scale
        columns = self.photos.sizes[index][1] // scale - self.patch + 1
        top, left = divmod(int(self._position_ends[index] - 1 - position), columns)
        return self.photos[index], top * scale, left * scale


def cut(image: np.ndarray, top: int, left: int, side: int, margin: int) -> np.ndarray:
    """A square with a margin; where that lies outside the image it is mirrored, as MATLAB does."""
    height, width = image.shape[:2]
    above, before = max(margin - top, 0), max(margin - left, 0)
    below, behind = (max(start + side + margin - end, 0)
                     for start, end in ((top, height), (left, width)))  # fmt: skip
    piece = image[max(top - margin, 0) : top + side + margin,
                  max(left - margin, 0) : left + side + margin]  # fmt: skip
    if above or before or below or behind:
        piece = np.pad(piece, ((above, below), (before, behind), (0, 0)), "symmetric")
    return piece


def turned(image: np.ndarray, way: int) -> np.ndarray:
    """One of the eight symmetries of the square, 0 to 7; a view."""
    if way & 1:
        image = image[::-1]
    if way & 2:
        image = image[:, ::-1]
    return image.swapaxes(0, 1) if way & 4 else image


def _without(image: np.ndarray, margin: int) -> np.ndarray:
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]


def _to_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def batches(
    patches: Patches, steps: range, process: int, processes: int, workers: int, pin: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """This process's share of the batch of each step, prepared ahead by ``workers`` processes."""
    share = patches.batch // processes
    first = process * share
    numbers = (step * patches.batch + first + i for step in steps for i in range(share))
    # Forked workers share the photographs; others would each be sent a copy. Apple's libraries do
    # not survive a fork.
    methods = multiprocessing.get_all_start_methods()
    fork = workers > 0 and "fork" in methods and sys.platform != "darwin"
    loader = DataLoader(
        patches,
        share,
        sampler=numbers,
        num_workers=workers,
        pin_memory=pin,
        multiprocessing_context="fork" if fork else None,
    )
    return iter(loader)
