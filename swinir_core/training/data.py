"""Training patches: photographs held in memory, their small versions made once, random crops."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..degradation import bicubic_resize
from ..errors import ImageError
from ..image_io import IMAGE_SUFFIXES, read_image, to_integers


def image_paths(folders: Sequence[Path]) -> list[Path]:
    """Every image file beneath the folders, in an order that does not depend on the disk.

    Raises ``ValueError`` for a folder that is none.
    """
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder; name one that holds images")
    return [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    ]


def read_rgb(path: Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8: gray three times, alpha dropped. Raises ``ImageError``."""
    pixels = to_integers(read_image(path).pixels, 8)
    return pixels[..., :3] if pixels.shape[2] > 2 else pixels[..., :1].repeat(3, axis=2)


@dataclass
class PatchDataset:
    """Pairs of a low- and a high-resolution image, all in memory as uint8 (H, W, 3).

    The high-resolution sides are ``scale`` times the low-resolution ones, and every
    low-resolution image holds at least one patch.
    """

    scale: int
    patch: int
    """Side of a low-resolution patch."""

    pairs: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    """Files that hold no readable image; skipped."""

    too_small: list[Path] = field(default_factory=list)
    """Images smaller than one patch; skipped."""

    @classmethod
    def from_folders(cls, folders: Sequence[Path], scale: int, patch: int) -> "PatchDataset":
        """Load every image beneath the folders. Raises ``ValueError`` when none is usable."""
        dataset = cls(scale, patch)
        for path in tqdm(image_paths(folders), "loading", unit="image", disable=None):
            dataset._add(path)
        if not dataset.pairs:
            names = ", ".join(str(folder) for folder in folders)
            raise ValueError(
                f"no usable training image in {names}: {len(dataset.unreadable)} unreadable, "
                f"{len(dataset.too_small)} smaller than {scale * patch}x{scale * patch} pixels"
            )
        return dataset

    def _add(self, path: Path) -> None:
        try:
            high = read_rgb(path)
        except ImageError:
            self.unreadable.append(path)
            return
        height, width = (side // self.scale for side in high.shape[:2])
        if min(height, width) < self.patch:
            self.too_small.append(path)
            return
        high = np.ascontiguousarray(high[: height * self.scale, : width * self.scale])
        self.pairs.append((bicubic_resize(high, 1 / self.scale), high))


class PatchSampler:
    """Random aligned patches, flipped and turned in all eight ways.

    Every possible patch is equally likely, so a large photograph gives more of them than a small
    one. A batch depends on the seed and the step alone: a resumed run sees what an uninterrupted
    one would have seen.
    """

    def __init__(self, dataset: PatchDataset, seed: int = 0) -> None:
        self.dataset = dataset
        self.seed = seed
        patch = dataset.patch
        positions = [
            (low.shape[0] - patch + 1) * (low.shape[1] - patch + 1) for low, _ in dataset.pairs
        ]
        self._position_ends = np.cumsum(positions)

    def batch(self, step: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(size, 3, patch, patch) and (size, 3, scale*patch, scale*patch), float32 in 0..1."""
        random = np.random.default_rng((self.seed, step))
        samples = [self._sample(random) for _ in range(size)]
        lows, highs = zip(*samples, strict=True)
        return _to_tensor(lows), _to_tensor(highs)

    def _sample(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        scale, patch = self.dataset.scale, self.dataset.patch
        position = random.integers(self._position_ends[-1])
        index = np.searchsorted(self._position_ends, position, side="right")
        low, high = self.dataset.pairs[index]
        top, left = divmod(self._position_ends[index] - 1 - position, low.shape[1] - patch + 1)
        low = low[top : top + patch, left : left + patch]
        top, left, side = top * scale, left * scale, patch * scale
        high = high[top : top + side, left : left + side]
        pose = int(random.integers(8))
        return _pose(low, pose), _pose(high, pose)


def _pose(patch: np.ndarray, pose: int) -> np.ndarray:
    """One of the eight symmetries of the square."""
    if pose & 1:
        patch = patch[::-1]
    if pose & 2:
        patch = patch[:, ::-1]
    return patch.swapaxes(0, 1) if pose & 4 else patch


def _to_tensor(patches: Sequence[np.ndarray]) -> torch.Tensor:
    batch = torch.from_numpy(np.stack(patches))
    return batch.movedim(-1, 1).to(torch.float32, memory_format=torch.contiguous_format) / 255
