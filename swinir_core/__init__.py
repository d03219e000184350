"""SwinIR in PyTorch: read any checkpoint, restore images exactly, train new weights.

This package knows torch and images and never ComfyUI; the nodes live next door in ``nodes``.
Names are imported when they are first used, so that ``swinir --help`` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoints.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
    from .checkpoints.models import ModelInfo, bundled_models, load_model
    from .errors import Cancelled, CheckpointError, ImageError
    from .images import metrics
    from .network.config import PRESETS, SwinIRConfig
    from .network.memory import estimate_memory
    from .network.swinir import SwinIR
    from .restoration.restorer import Restorer
    from .restoration.tiles import TileSettings

_NAMES = {
    "checkpoints.checkpoint": ("Checkpoint", "read_checkpoint", "write_checkpoint"),
    "checkpoints.models": ("ModelInfo", "bundled_models", "load_model"),
    "errors": ("Cancelled", "CheckpointError", "ImageError"),
    "network.config": ("PRESETS", "SwinIRConfig"),
    "network.memory": ("estimate_memory",),
    "network.swinir": ("SwinIR",),
    "restoration.restorer": ("Restorer",),
    "restoration.tiles": ("TileSettings",),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "PRESETS",
    "Cancelled",
    "Checkpoint",
    "CheckpointError",
    "ImageError",
    "ModelInfo",
    "Restorer",
    "SwinIR",
    "SwinIRConfig",
    "TileSettings",
    "bundled_models",
    "estimate_memory",
    "load_model",
    "metrics",
    "read_checkpoint",
    "write_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module(".images.metrics", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
