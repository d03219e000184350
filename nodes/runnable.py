"""Any ``UPSCALE_MODEL`` as something a ``Restorer`` runs under the host's memory management."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from spandrel import ImageModelDescriptor
from spandrel.architectures.SwinIR import SwinIR as SpandrelSwinIR
from torch import Tensor, nn

from ..swinir_core import SwinIR
from ..swinir_core.checkpoints.recognise import recognise
from ..swinir_core.checkpoints.spandrel import official_state_dict
from ..swinir_core.restoration.image_model import ImageModel
from . import host
from .upscale_model import SwinIRUpscaleModel


@dataclass(frozen=True)
class Runnable:
    """A model, who manages its memory, and what is left to do each time it was loaded."""

    model: ImageModel
    """Tells its scale and memory at any time; computes only after ``take_weights``."""

    patcher: Any
    """The host's patcher that owns the weights."""

    take_weights: Callable[[], None]
    """Called after loading, because the host may have moved or replaced the weights."""

    only_float32: bool = False
    """Whether the layers are not made to compute in the type of their input."""


def runnable(upscale_model: Any) -> Runnable:
    """Our own model as it is, another SwinIR on our network, any other architecture as it is.

    Raises ``ValueError`` for what is not a model that turns gray into gray or RGB into RGB.
    """
    if isinstance(upscale_model, SwinIRUpscaleModel):
        return Runnable(upscale_model.model, upscale_model.patcher, take_weights=lambda: None)
    if not isinstance(upscale_model, ImageModelDescriptor):
        kind = type(upscale_model).__name__
        raise ValueError(
            f"SwinIR Restore runs upscale models; what is connected is of type {kind}."
        )
    if isinstance(upscale_model.model, SpandrelSwinIR):
        return _rebuilt(upscale_model)
    return _other_architecture(upscale_model)


def _rebuilt(upscale_model: ImageModelDescriptor) -> Runnable:
    """A SwinIR the host loaded, on our network: the same weights, without a copy of them."""
    foreign: Any = upscale_model.model
    config = replace(recognise(official_state_dict(foreign)), img_range=float(foreign.img_range))
    model = SwinIR(config, host.operations(), device="meta").train(False)
    patcher = host.patcher_of(upscale_model)

    def take_weights() -> None:
        host.move_stragglers(patcher)
        model.load_state_dict(official_state_dict(foreign, buffers=False), assign=True)

    return Runnable(model, patcher, take_weights)


def _other_architecture(upscale_model: ImageModelDescriptor) -> Runnable:
    channels = (upscale_model.input_channels, upscale_model.output_channels)
    if channels not in ((1, 1), (3, 3)):
        raise ValueError(
            f"This {upscale_model.architecture.name} model turns {channels[0]} channels into "
            f"{channels[1]}; SwinIR Restore runs models for gray (1) or RGB (3) images."
        )
    patcher = host.patcher_of(upscale_model)
    return Runnable(
        OtherArchitecture(upscale_model),
        patcher,
        take_weights=lambda: host.move_stragglers(patcher),
        only_float32=True,
    )


class OtherArchitecture:
    """An upscale model of any kind, with what a ``Restorer`` asks of its models."""

    def __init__(self, upscale_model: ImageModelDescriptor) -> None:
        self._upscale_model = upscale_model
        self.scale: int = upscale_model.scale
        self.in_channels: int = upscale_model.input_channels
        self.alignment: int = upscale_model.size_requirements.multiple_of
        self.stages: tuple[nn.Module, ...] = ()  # Unknown; it also promises to run one image only.

    def estimate_memory(
        self, height: int, width: int, dtype: torch.dtype, device: torch.device, batch: int = 1
    ) -> int:
        """The host's own rule for architectures it knows nothing about, for this size."""
        return batch * height * width * 3 * dtype.itemsize * self.scale * 384

    def reusing_plans(self) -> AbstractContextManager[None]:
        return nullcontext()

    def __call__(self, x: Tensor) -> Tensor:
        return self._upscale_model(x)
