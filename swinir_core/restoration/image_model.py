"""The contract between a model and the code that runs it over images; models that wrap a model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import product
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from ..reports import Report, between, to_nobody

Call: TypeAlias = Callable[[Tensor, Report], Tensor]
"""A call of a model, with what its progress is reported to."""


class ImageModel(Protocol):
    """A model that a ``Restorer`` can run: a ``SwinIR``, a ``ForeignModel``, or a wrapper of one.

    All but ``measure`` and ``__call__`` is answered at any time, also before the weights are
    loaded, and never changes, except that estimates are better after ``measure``.
    """

    @property
    def scale(self) -> int:
        """Pixels of the result per input pixel, along each side; 1 where the size stays."""
        ...

    @property
    def in_channels(self) -> int:
        """Channels of inputs and results alike: 1 (gray) or 3 (RGB)."""
        ...

    @property
    def alignment(self) -> int:
        """Input pixels: the grid on which tiles are placed.

        Sides that are multiples of it need no padding within the model. Others are taken too, from
        1 pixel on. 1 where the model has no grid.
        """
        ...

    @property
    def tile_pixels(self) -> float:
        """Input pixels of a tile beyond which nothing is gained; infinite where a whole image is
        best."""
        ...

    def half_types(self, device: torch.device, /) -> tuple[torch.dtype, ...]:
        """List the types beside float32 that inputs on ``device`` may have, the better one first.

        The type of the inputs is that of the arithmetic.
        """
        ...

    def measure(
        self, dtype: torch.dtype, device: torch.device, pixels: int, report: Report, /
    ) -> bool:
        """Find out by running on small images what ``estimate_memory`` has to know.

        Args:
            dtype, device: Of the inputs.
            pixels: Input pixels that are going to be restored, of which a tenth may be spent.
            report: Called from within as in a call.

        Returns:
            ``False`` where nothing had to be found out: it was once, or never has to be.
        """
        ...

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        """Estimate the peak growth of memory on ``device`` during one call. Runs nothing.

        Args:
            height, width: Of each image, in input pixels.
            dtype: Of the input.
            device: Where the call would run.
            batch: Images in the call.

        Returns:
            Bytes, weights and input not counted.
        """
        ...

    def at_once(
        self,
        pixels: int,
        count: int,
        dtype: torch.dtype,
        device: torch.device,
        wanted: int | None,
        /,
    ) -> int:
        """Find how many images a call is given, if they fit the memory.

        Args:
            pixels: Input pixels of each.
            count: Images that there are, at least 1.
            dtype, device: Of the inputs.
            wanted: What the user wants; ``None`` for as many as make it faster.
        """
        ...

    def reusing_plans(self) -> AbstractContextManager[None]:
        """Let calls within the context keep what depends on the image size only.

        Entered for as long as images are run one after another; ``nullcontext`` where there is
        nothing to keep.
        """
        ...

    def wrapping(self, wrapped: tuple[bool, bool], /) -> Call | None:
        """Return the call for images that continue at the opposite edge, or ``None`` where there is
        none, so that they need margins.

        Args:
            wrapped: Whether images continue from bottom to top, and from right to left; these sides
                are multiples of ``alignment``.
        """
        ...

    def __call__(self, x: Tensor, report: Report = to_nobody, /) -> Tensor:
        """Restore images.

        Args:
            x: (B, in_channels, H, W) in 0..1; B is at most what ``at_once`` says.
            report: Called from within, several times a second, with the part of the call that is
                done as far as it is known; a model that is made of others hands it down to them. It
                may raise, which ends the call: that is how a run is stopped.

        Returns:
            (B, in_channels, scale * H, scale * W), about 0..1, not necessarily clamped; the caller
            may overwrite it.
        """
        ...


class Wrapper:
    """Base class of models that run another model; has all its properties.

    A subclass defines ``estimate_memory`` and ``__call__``.
    """

    def __init__(self, model: ImageModel) -> None:
        self.model = model
        self.scale = model.scale
        self.in_channels = model.in_channels
        self.alignment = model.alignment
        self.tile_pixels = model.tile_pixels

    def half_types(self, device: torch.device, /) -> tuple[torch.dtype, ...]:
        return self.model.half_types(device)

    def measure(
        self, dtype: torch.dtype, device: torch.device, pixels: int, report: Report, /
    ) -> bool:
        return self.model.measure(dtype, device, pixels, report)

    def at_once(self, *images: Any) -> int:
        return self.model.at_once(*images)

    def reusing_plans(self) -> AbstractContextManager[None]:
        return self.model.reusing_plans()

    def wrapping(self, wrapped: tuple[bool, bool], /) -> Call | None:
        """Return no call, unless a subclass can make one of its model's."""
        return None


TURNS = list(product((False, True), ((), (-1,), (-2,), (-2, -1))))
"""The eight symmetries of a square: whether rows and columns are exchanged, and which axes are
mirrored afterwards."""


class Ensemble(Wrapper):
    """The x8 self-ensemble: the mean of a model's results over all eight turns of an image.

    "SwinIR+" in the paper, as in Lim et al. 2017 (arXiv 1707.02921, section 3.4). Takes eight times
    as long, one turn after another.
    """

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        """Estimate the model's bytes, for the image upright or on its side, with those of the
        turned input and of the sum."""
        upright = self.model.estimate_memory(height, width, dtype, device, batch)
        sideways = self.model.estimate_memory(width, height, dtype, device, batch)
        values = batch * self.in_channels * height * width
        return max(upright, sideways) + values * (
            dtype.itemsize + self.scale**2 * _sum_type(dtype).itemsize
        )

    def wrapping(self, wrapped: tuple[bool, bool], /) -> Call | None:
        rows, columns = wrapped
        upright = self.model.wrapping((rows, columns))
        sideways = self.model.wrapping((columns, rows))
        if upright is None or sideways is None:
            return None
        return lambda x, report: self._mean(x, report, upright, sideways)

    def __call__(self, x: Tensor, report: Report = to_nobody, /) -> Tensor:
        """Restore (B, C, H, W) to (B, C, scale * H, scale * W), float32 at least, not clamped."""
        return self._mean(x, report, self.model, self.model)

    def _mean(self, x: Tensor, report: Report, upright: Call, sideways: Call) -> Tensor:
        """Restore with one call for images turned upright and another for those on their side."""
        batch, channels, height, width = x.shape
        total = x.new_zeros(
            (batch, channels, height * self.scale, width * self.scale), dtype=_sum_type(x.dtype)
        )
        for number, (transposed, flips) in enumerate(TURNS):
            turned = (x.transpose(-2, -1) if transposed else x).flip(flips).contiguous()
            step = between(report, number / len(TURNS), (number + 1) / len(TURNS))
            back = (sideways if transposed else upright)(turned, step).flip(flips)
            total += back.transpose(-2, -1) if transposed else back
            del turned, back
        return total.div_(len(TURNS))


def _sum_type(dtype: torch.dtype) -> torch.dtype:
    # The mean of eight results in half precision has more bits than each.
    return torch.promote_types(dtype, torch.float32)
