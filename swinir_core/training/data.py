"""Training patches: photographs held in memory, cropped, turned and degraded on the fly."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ..errors import ImageError
from ..evaluation.layouts import find_layout
from ..image_files.finding import images_in
from ..image_files.reading import open_image
from ..images.color import to_channels
from ..images.levels import to_floats, to_integers
from .tasks import Task

MOST_WORKERS = 8


def image_paths(folders: Sequence[Path], without: Sequence[Path] = ()) -> list[Path]:
    """List the image files in the folders, to any depth, except those inside ``without``; of data
    sets that bring inputs as well, only the good images.

    Raises ``ValueError`` for what is not a folder, when there is no image at all, and where names
    leave open which images are the good ones.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; name one that holds images.")
    left_out = {folder.resolve() for folder in without}
    paths = [
        folder / inside
        for folder in folders
        for inside, _ in find_layout(folder, images_in(folder), None)
        if left_out.isdisjoint((folder / inside).resolve().parents)
    ]
    if not paths:
        names = ", ".join(str(folder) for folder in folders)
        besides = "".join(f", besides what is in {folder}" for folder in without if folder.exists())
        raise ValueError(f"{names}: no PNG, JPEG, WebP or TIFF file in there{besides}.")
    return paths


def read_pixels(path: Path, channels: int, scale: int = 1) -> np.ndarray:
    """Read an image file as uint8 (H, W, channels), sides cut to multiples of ``scale``.

    Alpha is dropped. Gray becomes three equal channels; colour becomes one by ``rgb_to_gray``.
    Raises ``ImageError``.
    """
    levels = to_channels(open_image(path).levels(), channels)
    height, width = (side // scale * scale for side in levels.shape[:2])
    return levels[:height, :width]


@dataclass
class Photos:
    """Photographs, held as uint8 (H, W, C) as far as the memory reaches."""

    task: Task
    paths: list[Path] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """(height, width) in pixels, multiples of the scale."""

    unreadable: list[Path] = field(default_factory=list)
    """Files that hold no readable image; skipped."""

    too_small: list[Path] = field(default_factory=list)
    """Images smaller than one patch; skipped."""

    held: dict[int, np.ndarray] = field(default_factory=dict)
    """Pixels of the photographs in memory, by their place in ``paths``."""

    @classmethod
    def read(
        cls, paths: Sequence[Path], task: Task, patch: int, memory: int, quiet: bool = False
    ) -> Photos:
        """Read every file once and hold as many as fit.

        Args:
            paths: image files.
            task: what the patches are for.
            patch: side of a patch in pixels of the network's input.
            memory: bytes to fill; the other photographs are decoded anew for each patch.
            quiet: show no progress bar.

        Raises:
            ValueError: not one of them is usable.
        """
        photos = cls(task)
        for path in tqdm(paths, "reading", unit="image", disable=quiet or None):
            try:
                pixels = read_pixels(path, task.channels, task.scale)
            except ImageError:
                photos.unreadable.append(path)
                continue
            if min(pixels.shape[:2]) < patch * task.scale:
                photos.too_small.append(path)
                continue
            if pixels.nbytes <= memory:
                photos.held[len(photos.paths)] = np.ascontiguousarray(pixels)
                memory -= pixels.nbytes
            photos.paths.append(path)
            photos.sizes.append((pixels.shape[0], pixels.shape[1]))
        if not photos.paths:
            raise ValueError(
                f"none of the {len(paths)} images can be trained on: {len(photos.unreadable)} "
                f"unreadable, {len(photos.too_small)} smaller than a patch of "
                f"{patch * task.scale}x{patch * task.scale} pixels; use larger images or a "
                "smaller patch."
            )
        return photos

    def rows(self, index: int, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` of a photograph, uint8 (stop - start, W, C)."""
        if index in self.held:
            return self.held[index][start:stop]
        levels = to_integers(open_image(self.paths[index]).rows(start, stop))
        return to_channels(levels[:, : self.sizes[index][1]], self.task.channels)


class Patches(Dataset[tuple[Tensor, Tensor]]):
    """Pairs of network input and wanted output, without end.

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
        side, margin = self.patch * task.scale, task.margin * task.scale
        photo, top, left = self._position(random)
        start = max(top - margin, 0)
        rows = self.photos.rows(photo, start, min(top + side + margin, self.photos.sizes[photo][0]))
        high = crop(rows, top - start, left, side, margin)
        high = np.ascontiguousarray(turned(high, int(random.integers(8))))
        low = _without(task.degrade(high, random), task.margin)
        return _to_tensor(low), _to_tensor(to_floats(_without(high, margin)))

    def _position(self, random: np.random.Generator) -> tuple[int, int, int]:
        """Draw a photograph, and the upper left corner of a patch in its pixels."""
        position = random.integers(self._position_ends[-1])
        index = int(np.searchsorted(self._position_ends, position, side="right"))
        scale = self.photos.task.scale
        columns = self.photos.sizes[index][1] // scale - self.patch + 1
        top, left = divmod(int(self._position_ends[index] - 1 - position), columns)
        return index, top * scale, left * scale


def crop(image: np.ndarray, top: int, left: int, side: int, margin: int) -> np.ndarray:
    """Crop a square and a margin around it, which is mirrored outside the image as in MATLAB.

    Returns (side + 2 * margin, side + 2 * margin, C).
    """
    height, width = image.shape[:2]
    top, bottom = top - margin, top + side + margin
    left, right = left - margin, left + side + margin
    inside = image[max(top, 0) : bottom, max(left, 0) : right]
    rows = (max(-top, 0), max(bottom - height, 0))
    columns = (max(-left, 0), max(right - width, 0))
    return np.pad(inside, (rows, columns, (0, 0)), "symmetric")


def turned(image: np.ndarray, way: int) -> np.ndarray:
    """Apply one of the eight symmetries of the square, 0 to 7. Returns a view."""
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
    patches: Patches, steps: range, accelerator: Accelerator, workers: int | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what one process of a run takes of the batch of each step.

    Args:
        patches: whose batch is that of all processes together.
        steps: of the run.
        accelerator: device and processes of the run.
        workers: processes that prepare batches ahead; 0 prepares them in this one. ``None``: up to
            ``MOST_WORKERS`` beside a GPU, where processes can be forked, else 0.

    Returns inputs (B, C, patch, patch) and outputs (B, C, scale*patch, scale*patch), float32.
    """
    gpu = accelerator.device.type == "cuda"
    if workers is None:
        workers = min(MOST_WORKERS, os.cpu_count() or 1) if gpu and os.name == "posix" else 0
    size = patches.batch // accelerator.num_processes
    first = accelerator.process_index * size
    numbers = (step * patches.batch + first + i for step in steps for i in range(size))
    # Forked workers share the photographs; others would each be sent a copy. Apple's libraries do
    # not survive a fork.
    methods = multiprocessing.get_all_start_methods()
    fork = workers > 0 and "fork" in methods and sys.platform != "darwin"
    loader = DataLoader(
        patches,
        size,
        sampler=numbers,
        num_workers=workers,
        pin_memory=gpu,  # page-locked, for the copy to the device
        multiprocessing_context="fork" if fork else None,
    )
    return iter(loader)
