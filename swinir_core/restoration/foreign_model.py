"""Models of other architectures, as spandrel loads them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

_BYTES_PER_VALUE = 384
"""Times the input's values and the scale: what ComfyUI reserves for any upscale model."""


class ForeignModel:
    """An ``ImageModel`` that calls a spandrel descriptor of any architecture.

    Nothing is known of its layers, so it is given single images in float32, and a run can be
    cancelled between two of them only. The descriptor itself pads to the sizes it needs.
    """

    stages: Sequence[nn.Module] = ()
    passes = 1
    batches = False
    only_float32 = True

    def __init__(self, descriptor: ImageModelDescriptor) -> None:
        """Raises ``ValueError`` unless the model turns gray into gray or RGB into RGB."""
        channels = (descriptor.input_channels, descriptor.output_channels)
        if channels not in ((1, 1), (3, 3)):
            raise ValueError(
                f"this {descriptor.architecture.name} model turns {channels[0]} channels into "
                f"{channels[1]}; only models for gray (1) or RGB (3) images can be run."
            )
        self.descriptor = descriptor
        self.scale = descriptor.scale
        self.in_channels = descriptor.input_channels
        self.alignment = descriptor.size_requirements.multiple_of

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        """Estimate bytes by ComfyUI's rule, which knows the size of the input and the scale."""
        return batch * height * width * 3 * dtype.itemsize * self.scale * _BYTES_PER_VALUE

    def reusing_plans(self) -> AbstractContextManager[None]:
        return nullcontext()

    def __call__(self, x: Tensor) -> Tensor:
        """Restore (1, C, H, W) to (1, C, scale * H, scale * W) in 0..1."""
        result = self.descriptor(x)
        # Descriptors run in inference mode, outside of which their results may not be overwritten.
        return result if torch.is_inference_mode_enabled() else result.clone()
