"""Training patches: photographs held in memory, cropped, turned and degraded on the fly."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
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
from ..files import real_path
from ..image_files.finding import images_in
from ..image_files.reading import open_image
from ..images.color import rgb_to_gray, to_channels
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
    left_out = {real_path(folder) for folder in without}
    paths = [
        folder / inside
        for folder in folders
        for inside, _ in find_layout(folder, images_in(folder), None)
        if left_out.isdisjoint(real_path(folder / inside).parents)
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

    inputs: Photos | None = None
    """The given inputs in the order of ``paths``; without them inputs are made by degradation."""

    @classmethod
    def read(
        cls,
        paths: Sequence[Path],
        task: Task,
        patch: int,
        memory: int,
        quiet: bool = False,
        inputs: Mapping[Path, Path] | None = None,
    ) -> Photos:
        """Read every file once and hold as many as fit.

        Args:
            paths: image files.
            task: what the patches are for.
            patch: side of a patch in pixels of the network's input.
            memory: bytes to fill; the other photographs are decoded again for each patch.
            quiet: show no progress bar.
            inputs: file of the given network input of each photograph.

        Raises:
            ValueError: not one of them is usable, or a given input has another size than its
                photograph calls for.
        """
        photos = cls(task, inputs=cls(task) if inputs else None)
        for path in tqdm(paths, "reading", unit="image", disable=quiet or None):
            try:
                pixels = read_pixels(path, task.channels, task.scale)
                low = read_pixels(inputs[path], task.channels) if inputs else None
            except ImageError:
                photos.unreadable.append(path)
                continue
            if min(pixels.shape[:2]) < patch * task.scale:
                photos.too_small.append(path)
                continue
            if photos.inputs and inputs and low is not None:
                _check_pair(path, pixels, inputs[path], low, task.scale)
                memory -= photos.inputs._add(inputs[path], low, memory)
            memory -= photos._add(path, pixels, memory)
        if not photos.paths:
            raise ValueError(
                f"none of the {len(paths)} images can be trained on: {len(photos.unreadable)} "
                f"unreadable, {len(photos.too_small)} smaller than a patch of "
                f"{patch * task.scale}x{patch * task.scale} pixels; use larger images or a "
                "smaller patch."
            )
        return photos

    def _add(self, path: Path, pixels: np.ndarray, memory: int) -> int:
        """Add an image, and hold it where ``memory`` suffices. Returns the bytes it takes."""
        self.paths.append(path)
        self.sizes.append((pixels.shape[0], pixels.shape[1]))
        if pixels.nbytes > memory:
            return 0
        self.held[len(self.paths) - 1] = np.ascontiguousarray(pixels)
        return pixels.nbytes

    def rows(self, index: int, start: int, stop: int) -> np.ndarray:
        """Rows ``start`` to ``stop`` of a photograph, uint8 (stop - start, W, C)."""
        if index in self.held:
            return self.held[index][start:stop]
        levels = to_integers(open_image(self.paths[index]).rows(start, stop))
        return to_channels(levels[:, : self.sizes[index][1]], self.task.channels)

    def square(self, index: int, top: int, left: int, side: int, margin: int = 0) -> np.ndarray:
        """Cut a square with a margin around it, mirrored outside the photograph as in MATLAB.

        Returns uint8 (side + 2 * margin, side + 2 * margin, C).
        """
        start = max(top - margin, 0)
        rows = self.rows(index, start, min(top + side + margin, self.sizes[index][0]))
        return crop(rows, top - start, left, side, margin)

    def pair(
        self, index: int, top: int, left: int, side: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Cut a square, turned at random, and its given input or make one.

        Args:
            index: of the photograph.
            top, left: of the square in the photograph.
            side: of the input in pixels; in the photograph it is ``scale`` times as large.
            random: decides on the turn and the degradation.

        Returns:
            The input, float32 (side, side, C), and the square, uint8 (scale*side, scale*side, C).
        """
        task, margin = self.task, self.task.margin * self.task.scale
        if self.inputs:
            way, scale = int(random.integers(8)), task.scale
            low = self.inputs.square(index, top // scale, left // scale, side)
            return to_floats(turned(low, way)), turned(
                self.square(index, top, left, side * scale), way
            )
        high = self.square(index, top, left, side * task.scale, margin)
        high = np.ascontiguousarray(turned(high, int(random.integers(8))))
        low = without_margin(task.degrade(high, random), task.margin)
        return low, without_margin(high, margin)


@dataclass(frozen=True)
class Plain:
    """Shares of the patches that are made simpler than photographs are.

    Without them a network has seen too few to leave flat areas flat up to their corners, and gray
    pictures gray.
    """

    flat: float = 0.0
    """Share of one colour, input and output alike: half of them gray, many of them saturated."""

    gray: float = 0.0
    """Share whose channels all become the luma, of input and output alike."""

    def __call__(
        self, low: np.ndarray, high: np.ndarray, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Change a pair, float32 (H, W, C) each, where its turn has come."""
        if not (self.flat or self.gray):
            return low, high  # Draws nothing, so that runs without are what they were.
        kind, channels = random.random(), low.shape[-1]
        if kind < self.flat:
            color = random.uniform(-0.5, 1.5, channels if random.random() < 0.5 else 1)
            color = color.clip(0, 1).astype(np.float32)
            return np.broadcast_to(color, low.shape), np.broadcast_to(color, high.shape)
        if kind < self.flat + self.gray and channels == 3:
            return _in_gray(low), _in_gray(high)
        return low, high


class Pairs(Dataset[tuple[Tensor, ...]]):
    """Pairs of network input and wanted output, without end.

    Pair ``step * batch + i`` is the ``i``-th of that step. It depends on the seed, the step and
    ``i`` alone: a resumed run, and one spread over several processes, sees the same batches.
    """

    def __init__(self, task: Task, patch: int, batch: int, seed: int, plain: Plain) -> None:
        self.task, self.patch, self.batch, self.seed = task, patch, batch, seed
        self.plain = plain

    def random(self, number: int) -> np.random.Generator:
        """Make the generator that decides on everything random of a pair."""
        return np.random.default_rng((self.seed, *divmod(number, self.batch)))


class Patches(Pairs):
    """Patches of photographs, degraded, and the patches themselves.

    Every possible patch is equally likely, so a large photograph gives more of them than a small
    one; each is flipped and turned in one of the eight ways.
    """

    def __init__(
        self, photos: Photos, patch: int, batch: int, seed: int, plain: Plain = Plain()
    ) -> None:
        super().__init__(photos.task, patch, batch, seed, plain)
        self.photos = photos
        scale = self.task.scale
        positions = [
            (height // scale - patch + 1) * (width // scale - patch + 1)
            for height, width in photos.sizes
        ]
        self._position_ends = np.cumsum(positions)

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        """Input (C, patch, patch) and output (C, scale*patch, scale*patch), float32."""
        random = self.random(number)
        low, high = self.photos.pair(*self._position(random), self.patch, random)
        return to_tensors(*self.plain(low, to_floats(high), random))

    def _position(self, random: np.random.Generator) -> tuple[int, int, int]:
        """Draw a photograph, and the upper left corner of a patch in its pixels."""
        position = random.integers(self._position_ends[-1])
        index = int(np.searchsorted(self._position_ends, position, side="right"))
        scale = self.task.scale
        columns = self.photos.sizes[index][1] // scale - self.patch + 1
        top, left = divmod(int(self._position_ends[index] - 1 - position), columns)
        return index, top * scale, left * scale


def given_inputs(
    paths: Sequence[Path], folders: Sequence[Path], inputs: Sequence[Path], scale: int
) -> dict[Path, Path]:
    """Find the given input of each photograph: the file of the same name, or of that name with
    ``x`` and the scale behind, in the same inner folder, of whatever image format.

    Args:
        paths: photographs, each in one of ``folders``.
        folders: where they were found.
        inputs: the folder of the inputs for each of ``folders``.
        scale: of the task.

    Raises ``ValueError`` for a photograph without an input.
    """
    found = {
        (folder, inside.with_suffix("")): low / inside
        for folder, low in zip(folders, inputs, strict=True)
        for inside in images_in(low)
    }
    pairs = {}
    for path in paths:
        folder = next(folder for folder in folders if path.is_relative_to(folder))
        name = path.relative_to(folder).with_suffix("")
        names = (name, name.with_name(f"{name.name}x{scale}"))
        low = next((found[folder, each] for each in names if (folder, each) in found), None)
        if low is None:
            raise ValueError(
                f"{path} has no input named {names[0]} or {names[1]} in "
                f"{inputs[list(folders).index(folder)]}; every image in train needs one in low."
            )
        pairs[path] = low
    return pairs


def _check_pair(high: Path, pixels: np.ndarray, low: Path, given: np.ndarray, scale: int) -> None:
    height, width = (side // scale for side in pixels.shape[:2])
    if given.shape[:2] != (height, width):
        raise ValueError(
            f"{low} has {given.shape[1]}x{given.shape[0]} pixels, but {high} at scale {scale} "
            f"calls for {width}x{height}."
        )


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


def without_margin(image: np.ndarray, margin: int) -> np.ndarray:
    """Cut the margin off an image (H, W, C). Returns a view."""
    return image[margin : image.shape[0] - margin, margin : image.shape[1] - margin]


def to_tensors(*images: np.ndarray) -> tuple[Tensor, ...]:
    """Convert images (H, W, C) to tensors (C, H, W)."""
    return tuple(
        torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in images
    )


def _in_gray(image: np.ndarray) -> np.ndarray:
    return np.repeat(rgb_to_gray(image)[..., None], 3, axis=-1)


def batches(
    patches: Pairs, steps: range, accelerator: Accelerator, workers: int | None
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
