"""The paper's x8 self-ensemble: one model over an image turned and mirrored in every way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from .image_model import ImageModel, Wrapper

TURNS = [
    (transposed, flips)
    for transposed, flips in product((False, True), ((), (-1,), (-2,), (-2, -1)))
]
"""Whether rows and columns change places, and which axes are mirrored then: the eight ways in which
a square fits itself."""


class Ensemble(Wrapper):
    """The mean of a model's results over all eight turns of an image, each turned back.

    Itself a model that a ``Restorer`` runs; "SwinIR+" in the paper, as in Lim et al. 2017 (arXiv
    1707.02921, section 3.4). Takes eight times as long; memory is that of one run and of the sum,
    for the turns are run one after another. Results are float32 at least and, as the model's, not
    clamped.
    """

    def __init__(self, model: ImageModel) -> None:
        super().__init__(model)
        self._marks = [[nn.Identity() for _ in model.stages] for _ in TURNS]

    @property
    def stages(self) -> list[nn.Module]:
        """One for each stage of the model and each turn. They compute nothing: each is called when
        the model has passed that stage in that turn."""
        return [mark for marks in self._marks for mark in marks]

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        """Peak growth in bytes: that of the model for the image upright or on its side, the turned
        copy of the input, and the sum."""
        upright = self.model.estimate_memory(height, width, dtype, device, batch)
        sideways = self.model.estimate_memory(width, height, dtype, device, batch)
        values = batch * self.in_channels * height * width
        return max(upright, sideways) + values * (
            dtype.itemsize + self.scale**2 * _sum_type(dtype).itemsize
        )

    def __call__(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        total = x.new_zeros(
            (batch, channels, height * self.scale, width * self.scale), dtype=_sum_type(x.dtype)
        )
        for (transposed, flips), marks in zip(TURNS, self._marks, strict=True):
            turned = (x.transpose(-2, -1) if transposed else x).flip(flips).contiguous()
            with self._passing(marks):
                back = self.model(turned).flip(flips)
            total += back.transpose(-2, -1) if transposed else back
            del turned, back
        return total.div_(len(TURNS))

    @contextmanager
    def _passing(self, marks: list[nn.Identity]) -> Iterator[None]:
        """Call each of ``marks`` when the model has passed its stage."""
        hooks = [
            stage.register_forward_hook(partial(_call, mark))
            for stage, mark in zip(self.model.stages, marks, strict=True)
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _call(mark: nn.Identity, stage: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """Nothing is returned, for that would take the place of the output."""
    mark(output)


def _sum_type(dtype: torch.dtype) -> torch.dtype:
    """In which results are added up: eight of half precision would lose the bits they gain."""
    return torch.promote_types(dtype, torch.float32)
