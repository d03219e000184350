"""The teacher of a distillation: a model whose pictures another network learns to make."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from spandrel import ImageModelDescriptor, ModelLoader

from ..checkpoints.models import find_model, load_model
from ..errors import OtherNetworkError, PrecisionError
from ..images.levels import to_integers
from ..restoration.foreign_model import ForeignModel
from ..restoration.restorer import Restorer
from .tasks import Task

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Types of a forward pass, by accelerate's name of the run's precision."""


class Teacher:
    """A frozen model of any architecture that makes pictures of network inputs.

    Args:
        file: a SwinIR, a bundled one's name, or a model of another architecture that spandrel
            reads.
        task: settles scale and channels, which must be the model's.
        device: where it runs.
        precision: of the run, in accelerate's words. The teacher runs in it where its architecture
            can, otherwise in float32.

    Raises:
        CheckpointError: the file cannot be read.
        ValueError: it holds no model for images, or one of another scale or other channels.
    """

    def __init__(self, file: Path, task: Task, device: torch.device, precision: str) -> None:
        self.path = find_model(file)
        dtype = DTYPES[precision]
        try:
            model = load_model(self.path, device, dtype)
        except OtherNetworkError:
            model, dtype = _load_foreign(self.path, device, dtype)
        asked = (task.scale, task.channels)
        if (model.scale, model.in_channels) != asked:
            raise ValueError(
                f"the teacher {self.path.name} has scale {model.scale} and {model.in_channels} "
                f"channels, but the task has scale {task.scale} and {task.channels}; name another."
            )
        self._restorer = Restorer(model, device, dtype)

    def identity(self) -> str:
        """Return the SHA-256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    def __call__(
        self, low: np.ndarray, cancelled: Callable[[], bool], keep_means: bool
    ) -> np.ndarray:
        """Make the picture of one input.

        Args:
            low: float32 (H, W, C).
            cancelled: asked again and again; where it returns ``True`` the picture is given up.
            keep_means: give each channel of the picture the mean it has in the input.

        Returns:
            uint8 (scale*H, scale*W, C).

        Raises:
            Cancelled: ``cancelled`` returned ``True``.
            ValueError: the picture has pixels that are no numbers.
        """
        images = torch.from_numpy(low)[None]
        try:
            picture = self._restorer(images, cancelled=cancelled)[0].numpy()
            finite = bool(np.isfinite(picture).all())
        except PrecisionError:
            finite = False
        if not finite:
            raise ValueError(
                f"the teacher {self.path.name} makes pixels that are not numbers; "
                'try precision = "float32" under [run], or another file.'
            )
        if keep_means:
            picture = picture + (low.clip(0, 1).mean((0, 1)) - picture.mean((0, 1)))
        return to_integers(picture)


def _load_foreign(
    path: Path, device: torch.device, dtype: torch.dtype
) -> tuple[ForeignModel, torch.dtype]:
    """Load a model of another architecture, and choose the type it can compute in.

    Raises ``ValueError``.
    """
    try:
        descriptor = ModelLoader(device).load_from_file(path)
    except Exception as error:  # spandrel raises what its readers and architectures raise.
        raise ValueError(
            f"the teacher {path.name} is neither a SwinIR nor a model that spandrel reads: {error}."
        ) from error
    if not isinstance(descriptor, ImageModelDescriptor):
        raise ValueError(f"the teacher {path.name} needs more than an image; name another.")
    try:
        model = ForeignModel(descriptor.eval())
    except ValueError as error:
        raise ValueError(f"the teacher {path.name} cannot be used: {error}") from error
    return model, dtype if dtype in model.half_types(device) else torch.float32
