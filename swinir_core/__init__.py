"""SwinIR in PyTorch: read any checkpoint, restore images exactly, train new weights.

This package knows torch and images and never ComfyUI; the nodes live next door in ``nodes``.
"""

from . import metrics
from .checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from .config import PRESETS, SwinIRConfig
from .errors import Cancelled, CheckpointError, ImageError
from .memory import estimate_memory
from .models import ModelInfo, bundled_models, load_model
from .network import SwinIR
from .restorer import Restorer
from .tiling import TileSettings

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
