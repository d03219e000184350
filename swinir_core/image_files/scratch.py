"""Arrays larger than the memory."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import DTypeLike

from ..errors import ImageError
from ..files import nearest

MEMORY_FRACTION = 0.25
"""Part of the free memory up to which an array is kept in memory."""


def allocate(shape: tuple[int, ...], dtype: DTypeLike, folder: Path | None) -> np.ndarray:
    """Make an array to be filled: in memory or, where that is short, in a file in ``folder`` or in
    the nearest folder above it that exists.

    The file has no name, or loses it with the array: nothing is left of it, however the process
    ends. Without a folder the array is always in memory.

    Raises ImageError, without the name of the picture, when the disk cannot hold it.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if folder is None or size <= MEMORY_FRACTION * psutil.virtual_memory().available:
        return np.empty(shape, dtype)
    folder = nearest(folder.absolute())
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ImageError(
            f"is larger than the memory and needs {size / 1e9:.1f} GB of scratch space in "
            f"{folder}, where {free / 1e9:.1f} GB are free"
        )
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".swinir-") as file:
            if hasattr(os, "posix_fallocate"):
                # A disk that fills up later would end the process when a page is written.
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        raise ImageError(
            f"is larger than the memory and has no scratch space in {folder}: {error.strerror}"
        ) from error
