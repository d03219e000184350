"""One file of ``swinir restore``: read, restored and written by rows."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tqdm import tqdm

from ..image_files.reading import open_image
from ..image_files.writing import check_writable, write_rows
from ..restoration.restorer import Restorer
from ..restoration.streaming import Stream
from ..restoration.tiles import TileSettings
from ..text import shown


def restore_file(
    restorer: Restorer,
    source: Path,
    target: Path,
    tiles: TileSettings,
    overwrite: bool,
    label: str,
    show_progress: bool,
) -> str:
    """Restore one file, on a terminal under a progress bar named ``label``; returns the line that
    says so. Neither picture need fit the memory; what does not is kept beside the target."""
    started = time.perf_counter()
    picture = open_image(source, scratch=target.parent)
    height, width, channels = picture.shape
    scale = restorer.model.scale
    shape = (height * scale, width * scale, channels)
    check_writable(target, *shape)
    stream = Stream(restorer, picture, tiles)
    plan = stream.plan
    if len(plan.tiles) > 1:
        tqdm.write(f"{label}: {plan.summary()}", file=sys.stderr)
    disable = None if show_progress else True
    with tqdm(
        total=plan.pixels, desc=label, unit="px", unit_scale=True, leave=False, disable=disable
    ) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        write_rows(
            *(target, stream.bands(progress), shape),
            *(picture.bit_depth, picture.icc_profile, picture.exif, overwrite),
        )
    return (
        f"{shown(source)} ({width} x {height}) -> "
        f"{shown(target)} ({width * scale} x {height * scale}) "
        f"in {time.perf_counter() - started:.1f} s"
    )
