"""What a run will take, and what it has done and learned so far."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from ..errors import Cancelled
from .tiles import TilePlan

Progress = Callable[[int, int], None]
"""Called with (pixels done, pixels in all): input pixels, overlaps included. The first never falls:
where memory runs out it stands still until as much is done again. The second grows when tiles have
to be cut smaller."""


_MANY_TIMES = 2
"""The pixels of an image that are worth saying how often they are computed."""


@dataclass(frozen=True)
class Forecast(TilePlan):
    """The tiles of a run over equally large images, and the memory it needs. Prints as a sentence
    would say it."""

    images: int

    runs_of_an_image: int
    """Model runs that one image takes: more than one where its channels are restored one by one."""

    at_once: int
    """Pieces of the largest size that are run together, be they tiles or whole images."""

    bytes: int
    """Estimated peak growth on the device while they are, weights not included."""

    budget: int
    """Bytes it may be. More are needed where no smaller pieces are possible, or wanted."""

    overlap_needed: int
    """Input pixels that tiles had to share for no seam to show, where the settings leave it to the
    network; otherwise 0."""

    untouched: int = 0
    """Tiles, of all images together, that a mask leaves as they are."""

    def __str__(self) -> str:
        height, width = self.largest
        images = f"{self.images} image{'s' * (self.images != 1)}"
        if self.tile_count == 1:
            pieces = f"{images} of {width}x{height}, whole"
        elif self.images == 1:
            pieces = f"{self.tile_count} tiles of {width}x{height}"
        else:
            pieces = f"{images} in {self.tile_count} tiles of {width}x{height}"
        apart = ", each channel by itself" * (self.runs_of_an_image > 1)
        text = f"{pieces}{apart}, {self.at_once} at a time, {_size(self.bytes)} of memory"
        if self.bytes > self.budget:
            text += f", more than the {_size(self.budget)} there are for it"
        everything = self.images * self.tile_count
        if self.untouched:
            kind = "tiles" if self.tile_count > 1 else "images"
            text += f"; the mask leaves out {self.untouched} of {everything} {kind}"
        if self.untouched and self.untouched == everything:
            text += ": it is black everywhere, so nothing is restored"
        times = self.pixels / (self.rows[-1].stop * self.columns[-1].stop)
        if times >= _MANY_TIMES:
            text += f"; overlaps make it compute {times:.1f} times the pixels of the image"
        if self.tile_count > 1 and self.overlap < self.overlap_needed:
            text += (
                f"; tiles of this size share {self.overlap} pixels of the {self.overlap_needed} "
                "that this model needs for no seam to show, so take larger ones"
            )
        return text


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


@dataclass
class Run:
    """One call of a ``Restorer``: how far it is, and how much fits the memory."""

    total: float
    """Input pixels to compute, overlaps included."""

    most_pixels: float
    """Input pixels of the most that is run at once: of several pieces, or of one tile."""

    most_pieces: int
    """Pieces that are run together at most, however small."""

    share: float
    """What an input pixel counts: less than one where the channels of an image are run one by
    one."""

    progress: Progress | None = None
    cancelled: Callable[[], bool] | None = None
    done: float = 0

    reported: float = 0
    """What ``progress`` was last told."""

    tried: list[str] = field(default_factory=list)
    """What memory ran out for."""

    smaller_plans: dict[tuple[int, int], TilePlan] = field(default_factory=dict)
    """How a tile that does not fit is cut, by its height and width."""

    def check(self) -> None:
        if self.cancelled is not None and self.cancelled():
            raise Cancelled(f"stopped after {self.done:.0f} of {self.total:.0f} pixels")

    def advance(self, pixels: float) -> None:
        self.done += pixels
        if self.progress is not None and self.done > self.reported:
            self.reported = self.done
            self.progress(round(self.done), round(self.total))

    def at_once(self, height: int, width: int) -> int:
        """How many pieces of this size may be run together."""
        fitting = math.floor(self.most_pixels / (height * width))
        return max(min(fitting, self.most_pieces), 1)

    def ran_out_of_memory(self, pieces: int, height: int, width: int) -> None:
        """From now on at most half of this is run at once."""
        self.tried.append(f"{f'{pieces} times ' * (pieces > 1)}{width}x{height}")
        self.most_pixels = pieces * height * width / 2
        self.smaller_plans.clear()
