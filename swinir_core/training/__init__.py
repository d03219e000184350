"""Training: data, initialisation, trainer. Imports torch and the core, never ComfyUI."""

from .init import init_weights

__all__ = ["init_weights"]
