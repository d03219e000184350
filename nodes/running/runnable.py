"""Models that a ``Restorer`` runs under the host's memory management, of any ``UPSCALE_MODEL``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from spandrel import ImageModelDescriptor
from spandrel.architectures.SwinIR import SwinIR as SpandrelSwinIR

from ...swinir_core import Checkpoint, SwinIR
from ...swinir_core.checkpoints.recognise import recognise
from ...swinir_core.checkpoints.spandrel import official_state_dict
from ...swinir_core.restoration.foreign_model import ForeignModel
from ...swinir_core.restoration.image_model import ImageModel
from .. import host
from .upscale_model import SwinIRUpscaleModel


@dataclass(frozen=True)
class Runnable:
    """A model and the host's patcher that owns its weights."""

    model: ImageModel
    """Computes only after ``load``."""

    patcher: Any
    take_weights: Callable[[], None] = lambda: None
    """Called after every loading, because the host may have moved or replaced the weights."""

    def load(self, memory_required: int = 0) -> None:
        """Bring the weights to the device and make ``memory_required`` bytes free there."""
        host.load(self.patcher, memory_required)
        self.take_weights()


def to_runnable(upscale_model: Any) -> Runnable:
    """Take our own model as it is, rebuild another SwinIR on our network, wrap all others.

    Raises ``ValueError`` for what is not a model that turns gray into gray or RGB into RGB.
    """
    if isinstance(upscale_model, SwinIRUpscaleModel):
        return Runnable(upscale_model.model, upscale_model.patcher)
    if not isinstance(upscale_model, ImageModelDescriptor):
        kind = type(upscale_model).__name__
        raise ValueError(
            f"Upscale or Restore (SwinIR) runs upscale models; what is connected is of type {kind}."
        )
    if isinstance(upscale_model.model, SpandrelSwinIR):
        return _rebuilt(upscale_model)
    model, patcher = ForeignModel(upscale_model), host.patcher_of(upscale_model)
    return Runnable(model, patcher, lambda: host.move_stragglers(patcher))


def _rebuilt(upscale_model: ImageModelDescriptor) -> Runnable:
    """Rebuild a SwinIR that the host loaded on our network, which uses its weights uncopied."""
    foreign: Any = upscale_model.model
    config = replace(recognise(official_state_dict(foreign)), img_range=float(foreign.img_range))
    model = SwinIR(config, host.operations(), device="meta").train(False)
    patcher = host.patcher_of(upscale_model)

    def take_weights() -> None:
        host.move_stragglers(patcher)
        model.load_state_dict(official_state_dict(foreign, buffers=False), assign=True)

    return Runnable(model, patcher, take_weights)


def to_checkpoint(upscale_model: Any, refusal: str) -> Checkpoint:
    """Collect weights and configuration of a SwinIR, ours or the host's; the weights are those of
    the model where they lie on the CPU, copies where they do not.

    Raises ``ValueError`` for any other model: ``refusal``, and its type.
    """
    network = getattr(upscale_model, "model", None)
    if not isinstance(network, (SwinIR, SpandrelSwinIR)):
        raise ValueError(f"{refusal} is of type {type(network or upscale_model).__name__}.")
    runnable = to_runnable(upscale_model)
    assert isinstance(runnable.model, SwinIR)
    runnable.load()
    weights = {key: weight.to("cpu") for key, weight in runnable.model.state_dict().items()}
    if isinstance(upscale_model, SwinIRUpscaleModel):
        return replace(upscale_model.origin, state_dict=weights)
    return Checkpoint(runnable.model.config, weights)
