"""SwinIR in PyTorch: read any checkpoint, restore images exactly, train new weights.

This package knows torch and images and never ComfyUI; the nodes live next door in ``nodes``.
Names are imported when they are first used, so that ``swinir --help`` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import metrics
    from .checkpoint import Checkpoint, read_checkpoint, write_checkpoint
    from .config import PRESETS, SwinIRConfig
    from .errors import Cancelled, CheckpointError, ImageError
    from .memory import estimate_memory
    from .models import ModelInfo, bundled_models, load_model
    from .network import SwinIR
    from .restorer import Restorer
    from .tiling import TileSettings

_NAMES = {
    "checkpoint": ("Checkpoint", "read_checkpoint", "write_checkpoint"),
    "config": ("PRESETS", "SwinIRConfig"),
    "errors": ("Cancelled", "CheckpointError", "ImageError"),
    "memory": ("estimate_memory",),
    "models": ("ModelInfo", "bundled_models", "load_model"),
    "network": ("SwinIR",),
    "restorer": ("Restorer",),
    "tiling": ("TileSettings",),
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
        return import_module(".metrics", __name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
