"""Models of no architecture, for what runs a model but does not care which."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


class PretendModel:
    """An ``ImageModel`` of the neutral values; its estimates say that everything fits."""

    in_channels = 3
    alignment = 1
    tile_pixels = math.inf

    def __init__(self, scale: int = 1) -> None:
        self.scale = scale

    def reusing_plans(self) -> AbstractContextManager[None]:
        return nullcontext()

    def wrapping(self, *_: object) -> None:
        return None

    def half_types(self, _: torch.device) -> tuple[torch.dtype, ...]:
        return ()

    def measure(self, *_: object) -> bool:
        return False

    def at_once(self, *_: object) -> int:
        return 1

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        return 0

    def __call__(self, x: Tensor, *_: object) -> Tensor:
        """Enlarge (B, C, H, W) by the nearest neighbour."""
        return x.repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)
