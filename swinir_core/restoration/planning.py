"""Plan of a run, made before it: tiles, how many are run together, and the memory they take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from .image_model import ImageModel
from .masking import touched
from .tiles import Tile, TilePlan, TileSettings, plan_fitting, plan_tiles, plan_whole

_OVERLAPS_TO_MENTION = 2
"""The summary mentions overlaps that multiply the computed pixels by this factor or more."""


@dataclass(frozen=True)
class RunPlan:
    """A run over equally large images: made once by a ``Restorer``, and handed to its ``run``."""

    tiles: TilePlan
    """Of every image."""

    settings: TileSettings
    """Settings from which the plan was made."""

    selected: Sequence[Sequence[Tile]]
    """For each image, the tiles to compute: those that its mask touches, the largest first."""

    wrapped: tuple[bool, bool]
    """Whether images continue from bottom to top, and from right to left."""

    runs_of_an_image: int
    """Model runs that the colours of one image take: more than one where its channels are restored
    one by one."""

    restores_alpha: bool
    """True where alpha takes a run of its own."""

    at_once: int
    """Tiles of the largest size that are run together; an image that is not cut is one tile."""

    memory: int
    """Estimated peak growth on the device during the run, in bytes, weights not included."""

    budget: int
    """Bytes available for it. ``memory`` is more where no smaller tiles are possible, or wanted."""

    overlap_wanted: int
    """Input pixels that tiles have to share where the image is cut, as set or for no seam to show;
    otherwise 0."""

    @property
    def model_wraps(self) -> bool:
        """True where the model itself takes an image that is not cut as wrapped, without margins
        that are thrown away."""
        return any(self.wrapped) and self.tiles.margins == (0, 0)

    @property
    def untouched(self) -> int:
        """Tiles, of all images together, that a mask leaves as they are."""
        return self._tiles_in_all - sum(map(len, self.selected))

    @property
    def _tiles_in_all(self) -> int:
        return len(self.selected) * len(self.tiles.tiles_by_size())

    @property
    def pixels(self) -> int:
        """Input pixels to compute for all images, overlaps and alpha counted each time."""
        once = sum(math.prod(tile.size) for tiles in self.selected for tile in tiles)
        return once * (1 + self.restores_alpha)

    def summary(self) -> str:
        """Describe the run in a sentence for a person, with what could be improved about it."""
        height, width = self.tiles.largest
        count, everything = len(self.selected), self._tiles_in_all
        images = f"{count} image{'s' * (count != 1)}"
        if len(self.tiles) == 1:
            text = f"{images} of {width}x{height}, whole"
        else:
            cut = f"{len(self.tiles)} tiles of {width}x{height}"
            text = cut if count == 1 else f"{images} in {cut}"
        margin = max(self.tiles.margins)
        text += f", with {margin} pixels beyond the edges" * (margin > 0)
        text += ", each channel by itself" * (self.runs_of_an_image > 1)
        text += ", alpha restored as well" * self.restores_alpha
        text += f", {self.at_once} at a time, {_size(self.memory)} of memory"
        if self.memory > self.budget:
            text += f", more than the {_size(self.budget)} there are for it"
        if self.untouched:
            kind = "tiles" if len(self.tiles) > 1 else "images"
            text += f"; the mask leaves out {self.untouched} of {everything} {kind}"
            if self.untouched == everything:
                text += ": it is black everywhere, or strength is 0, so nothing is restored"
        times = self.tiles.pixels / math.prod(self.tiles.image_size)
        if times >= _OVERLAPS_TO_MENTION:
            text += f"; overlaps make it compute {times:.1f} times the pixels of the image"
        asked = self.settings.tile_sides
        if self.settings.mode == "tiled" and (height > asked[0] or width > asked[1]):
            text += (
                f"; tiles of {asked[1]}x{asked[0]} were asked for, but those of this model cannot "
                "be smaller"
            )
        if self.tiles.overlap < self.overlap_wanted:
            whose = "that this model needs for no seam to show"
            if self.settings.overlap is not None:
                whose = "asked for"
            text += (
                f"; tiles of this size share {self.tiles.overlap} pixels of the "
                f"{self.overlap_wanted} {whose}, so take larger ones"
            )
        return text


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


def place_tiles(
    size: tuple[int, int],
    settings: TileSettings,
    model: ImageModel,
    overlap: Callable[[], int],
    fits: Callable[[int, int], bool],
) -> TilePlan:
    """Cut images where the settings want it or they do not fit the memory.

    Args:
        size: Height and width of the images, in input pixels.
        settings: Whether and how large images are cut.
        model: Of which only scale and alignment are used.
        overlap: Returns the input pixels that tiles share; called only where images are cut.
        fits: Tells of a tile's height and width whether it fits the memory.
    """
    if settings.mode == "tiled":
        whole = size[0] <= settings.tile_sides[0] and size[1] <= settings.tile_sides[1]
    else:
        whole = settings.mode == "whole" or fits(*size)
    if whole:
        return plan_whole(*size, model.scale)
    if settings.mode == "tiled":
        return plan_tiles(size, model.scale, model.alignment, settings.tile_sides, overlap())
    return plan_fitting(*size, model.scale, model.alignment, overlap(), fits)


def select_tiles(
    tiles: TilePlan, images: int, mask: Tensor | None, wrapped: tuple[bool, bool]
) -> list[list[Tile]]:
    """List the tiles of each image that its mask (B or 1, H, W) touches, the largest first."""
    every = tiles.tiles_by_size()
    if mask is None:
        return [every] * images
    # One mask at a time, as those of a video would take much memory.
    parts = (touched(one, wrapped) for one in mask)
    selected = [[tile for tile in every if tile.of(part).any()] for part in parts]
    return selected if len(mask) == images else selected * images
