"""The tests under other versions of Python and torch, and their outcome.

    python benchmarks/robustness/platform_matrix.py PYTHON... \\
        --json benchmarks/results/platforms.json

It runs all tests but those of a host and a browser with each of the given interpreters, one after
another, on a copy of this checkout. Each environment must have what ``pip install -e ".[test]"``
installs, in whichever versions are to be tried. A row for each is written into the JSON file, in
the place of an earlier row for the same Python and torch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
PYTEST += ["--ignore=tests/host", "--ignore=tests/browser"]
LIMIT = 3600
"""Seconds until a run is given up."""

PACKAGES = ("torch", "triton", "numpy", "safetensors", "einops", "spandrel", "pillow", "tifffile")
PACKAGES += ("imagecodecs", "psutil", "accelerate", "pytest")
ABOUT = f"""
import json, platform
from importlib import metadata
import torch
found = {{dist.metadata["Name"].lower(): dist.version for dist in metadata.distributions()}}
versions = {{name: found[name] for name in {PACKAGES!r} if name in found}}
print(json.dumps({{
    "python": platform.python_version(),
    "system": f"{{platform.system()}} {{platform.machine()}}",
    "instructions": torch.backends.cpu.get_cpu_capability(),
    "versions": versions | {{"torch": torch.__version__}},
}}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pythons", nargs="+", metavar="PYTHON", help="interpreter to test with")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where rows are kept")
    args = parser.parse_args()
    failed = False
    for python in args.pythons:
        row = run(python)
        print(json.dumps(row, indent=2), flush=True)
        failed |= bool(row["failed"] or row["errors"] or row["outcome"] != "finished")
        if args.json:
            keep(args.json, row)
    return int(failed)


def run(python: str) -> dict[str, Any]:
    """The tests with one interpreter, as a row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        copy, report = Path(folder, "pack"), Path(folder, "report.xml")
        copy_checkout(copy)
        about = subprocess.run(
            [python, "-c", ABOUT], cwd=folder, check=True, capture_output=True, text=True
        )
        started = time.monotonic()
        outcome = "finished"
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        try:
            done = subprocess.run(
                [python, *PYTEST, f"--junitxml={report}"],
                cwd=copy,
                env=environment,
                timeout=LIMIT,
                check=False,
            )
            if done.returncode not in (0, 1):
                outcome = f"pytest ended with {done.returncode}"
        except subprocess.TimeoutExpired:
            outcome = f"not finished within {LIMIT} s"
        row = json.loads(about.stdout)
        row["command"] = " ".join(["python", *PYTEST])
        row["commit"] = commit()
        row["date"] = f"{datetime.now(timezone.utc):%Y-%m-%d}"
        row["seconds"] = round(time.monotonic() - started)
        row["outcome"] = outcome
        return row | (counts(report) if report.is_file() else {"failed": [], "errors": []})


def copy_checkout(target: Path) -> None:
    """Every file that is, or could be, committed: no caches, no environments."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def commit() -> str:
    """The commit that is tested, marked where files differ from it."""
    describe = ["git", "describe", "--always", "--dirty"]
    return subprocess.check_output(describe, cwd=ROOT, text=True).strip()


def counts(report: Path) -> dict[str, Any]:
    """Numbers of tests that passed, reasons of those skipped, names of those that failed."""
    passed, skipped = 0, Counter[str]()
    failed: list[str] = []
    errors: list[str] = []
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        if case.find("failure") is not None:
            failed.append(name)
        elif case.find("error") is not None:
            errors.append(name)
        elif (skip := case.find("skipped")) is not None:
            skipped[skip.get("message", "")] += 1
        else:
            passed += 1
    return {"passed": passed, "failed": failed, "errors": errors, "skipped": dict(skipped)}


def keep(path: Path, row: dict[str, Any]) -> None:
    def key(row: dict[str, Any]) -> tuple[str, str]:
        return row["python"], row["versions"]["torch"]

    rows = json.loads(path.read_text("utf-8")) if path.is_file() else []
    rows = [*(other for other in rows if key(other) != key(row)), row]
    numbers = [tuple(int(part) for part in row["python"].split(".")) for row in rows]
    rows = [row for _, row in sorted(zip(numbers, rows, strict=True), key=lambda pair: pair[0])]
    path.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
