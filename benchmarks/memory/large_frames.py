"""A video of large frames through ``swinir restore``, watched from outside, and its interrupt.

    python -m benchmarks.memory.large_frames --json benchmarks/results/memory-large-frames.json

A fresh process restores a video with sound. After some seconds of processor time, in the middle of
a frame, it is sent what Ctrl-C sends.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks import common
from tests.support.videos import times_of, write_video

MODEL = "upscale_x2_light"
SECONDS_BETWEEN_READINGS = 0.1


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--height", type=int, default=1080)
    parser.add_argument("--seconds", type=float, default=150, help="of processor time")
    parser.add_argument("--options", default="", metavar="'...'", help="of swinir restore")
    args = parser.parse_args()
    size = (args.width, args.height)
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder) / "in.mp4", 12, size, sound="aac")
        found = run(Path(folder), args.seconds, args.options.split())
    result = {"model": MODEL, "frames_of": f"{args.width}x{args.height}", **found}
    print(json.dumps(result, indent=2))
    common.write(args.json, result)


def run(folder: Path, seconds: float, options: list[str]) -> dict[str, Any]:
    """Restore ``in.mp4`` for ``seconds`` and interrupt it."""
    command = [sys.executable, "-m", "swinir_core", "restore", str(folder / "in.mp4")]
    command += ["-o", str(folder / "out.mp4"), "--model", MODEL, *options]
    memory, asked, spent = 0, 0.0, 0.0
    with subprocess.Popen(command, cwd=common.ROOT, stderr=subprocess.PIPE, text=True) as process:
        own = psutil.Process(process.pid)
        while own.status() != psutil.STATUS_ZOMBIE:
            memory, times = max(memory, own.memory_info().rss), own.cpu_times()
            if not asked and times.user + times.system > seconds:
                process.send_signal(signal.SIGINT)
                asked, before = time.monotonic(), times.user + times.system
            if asked:
                spent = times.user + times.system - before
            time.sleep(SECONDS_BETWEEN_READINGS)
        _, said = process.communicate()
    if not asked:
        raise SystemExit(f"it ended before {seconds} seconds: {said}")
    kept = list(folder.glob("out-first-*-frames.mp4"))
    return {
        "frames_restored": [len(times_of(path)) for path in kept],
        "highest_megabytes": round(memory / 2**20),
        "seconds_to_stop": round(time.monotonic() - asked, 2),
        "processor_seconds_to_stop": round(spent, 2),
    }


if __name__ == "__main__":
    main()
