"""A real ComfyUI of its own, and its memory watched from outside."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from tests.host.comfy_host import ComfyHost
from tests.host.conftest import REPOSITORY, find_home, find_python

SECONDS_BETWEEN_READINGS = 0.25


@contextmanager
def started_host() -> Iterator[ComfyHost]:
    """Start the host in COMFYUI_PATH, else ~/ComfyUI, with this pack and folders of its own."""
    home = find_home()
    with tempfile.TemporaryDirectory() as folder:
        host = ComfyHost(home, find_python(home), REPOSITORY, Path(folder) / "base")
        try:
            host.wait_until_ready()
            yield host
        finally:
            host.stop()


def version(host: ComfyHost) -> str:
    """Version of a ComfyUI."""
    return host.get_json("/system_stats")["system"]["comfyui_version"]


class Watch:
    """Memory and open files of a process, read by another thread."""

    def __init__(self, process_id: int) -> None:
        self._process = psutil.Process(process_id)
        self.readings: list[tuple[int, int]] = []
        """(resident bytes, open files)"""

    def read(self) -> None:
        self.readings.append((self._process.memory_info().rss, self._process.num_fds()))

    @contextmanager
    def watching(self) -> Iterator[None]:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(SECONDS_BETWEEN_READINGS):
                self.read()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def in_tenths(
    values: Sequence[float], summary: Callable[[Sequence[float]], float] = median
) -> list[float]:
    """The median, or another summary, of every tenth."""
    return [
        float(summary(part.tolist()))
        for part in np.array_split(np.asarray(values), 10)
        if len(part)
    ]
