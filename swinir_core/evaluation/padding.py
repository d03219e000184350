"""The padding of the paper's evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from ..reports import Report, to_nobody
from ..restoration.image_model import Wrapper


class SymmetricPadding(Wrapper):
    """Model that pads its images as in the paper's evaluation.

    They are mirrored at the bottom and right edge, the edge itself repeated, up to the next whole
    window, and by a full window if they end with one. An image smaller than its padding is
    mirrored once; the wrapped model pads the rest.
    """

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        """Peak growth in bytes, the padded input included."""
        height, width = self._padded(height), self._padded(width)
        padded = batch * self.in_channels * height * width * dtype.itemsize
        return padded + self.model.estimate_memory(height, width, dtype, device, batch)

    def __call__(self, x: Tensor, report: Report = to_nobody, /) -> Tensor:
        height, width = x.shape[-2:]
        x = torch.cat([x, x.flip(-2)], -2)[..., : self._padded(height), :]
        x = torch.cat([x, x.flip(-1)], -1)[..., : self._padded(width)]
        return self.model(x, report)[..., : height * self.scale, : width * self.scale]

    def _padded(self, side: int) -> int:
        return (side // self.alignment + 1) * self.alignment
