"""Every example workflow, described once: ``build.py`` draws and saves them in a real frontend."""

from .comparisons import COMPARISONS
from .diffusion import AFTER_DIFFUSION, SECOND_PASS
from .graph import Node, Workflow
from .pipelines import (
    BATCH,
    FOLDER,
    HOST_MODEL_IN_OUR_NODE,
    LARGE_IMAGE_TILES,
    OUR_MODEL_IN_HOST_NODE,
    VIDEO,
)
from .tasks import (
    BLEND_MODELS,
    COMPARE_QUALITY,
    DENOISE_PHOTO,
    GRAY_IMAGE,
    LOOK,
    REAL_WORLD,
    REMOVE_JPEG,
    SEAMLESS,
    SIZE,
    UPSCALE_PHOTO,
)

WORKFLOWS: tuple[Workflow, ...] = (
    UPSCALE_PHOTO,
    REAL_WORLD,
    DENOISE_PHOTO,
    REMOVE_JPEG,
    GRAY_IMAGE,
    AFTER_DIFFUSION,
    SECOND_PASS,
    LARGE_IMAGE_TILES,
    BATCH,
    VIDEO,
    OUR_MODEL_IN_HOST_NODE,
    HOST_MODEL_IN_OUR_NODE,
    COMPARE_QUALITY,
    BLEND_MODELS,
    FOLDER,
    SIZE,
    SEAMLESS,
    LOOK,
)

__all__ = ["COMPARE_QUALITY", "COMPARISONS", "WORKFLOWS", "Node", "Workflow"]
