"""Training: settings, data, losses, the loop. Imports torch and the core, never ComfyUI."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..network.initialisation import init_weights

__all__ = ["init_weights"]


def __getattr__(name: str) -> Any:
    """So that reading a configuration need not wait for torch."""
    if name == "init_weights":
        from ..network.initialisation import init_weights

        return init_weights
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
