"""What is asked of a model by the code that runs it over images."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import torch
from torch import Tensor, nn


class ImageModel(Protocol):
    """What a ``Restorer`` runs: a ``SwinIR``, or anything that says the same of itself."""

    @property
    def scale(self) -> int: ...

    @property
    def in_channels(self) -> int: ...

    @property
    def alignment(self) -> int: ...

    @property
    def stages(self) -> Sequence[nn.Module]:
        """Modules a run passes one after another, about equally long. May be none; then pieces are
        run one by one, so that a run can be cancelled between them."""
        ...

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        """Peak growth in bytes while ``batch`` images of this size are run together."""
        ...

    def reusing_plans(self) -> AbstractContextManager[None]:
        """Entered for as long as images are run one after another."""
        ...

    def __call__(self, x: Tensor, /) -> Tensor:
        """(B, in_channels, H, W) to (B, in_channels, scale * H, scale * W)."""
        ...


class Wrapper:
    """What another model says of itself, for a model that runs it."""

    def __init__(self, model: ImageModel) -> None:
        self.model = model

    @property
    def scale(self) -> int:
        return self.model.scale

    @property
    def in_channels(self) -> int:
        return self.model.in_channels

    @property
    def alignment(self) -> int:
        return self.model.alignment

    def reusing_plans(self) -> AbstractContextManager[None]:
        return self.model.reusing_plans()
