"""Options, records and rounds that the scripts have in common."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from swinir_core.benchmark.machine import describe
from swinir_core.cli.options import json_argument
from swinir_core.cli.output import write_json

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
Key = TypeVar("Key")


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with ``--json``, described by the first line of a script's docstring."""
    found = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    found.add_argument("--json", type=json_argument, metavar="FILE", help="file for the result")
    return found


def add_threads(script: argparse.ArgumentParser) -> None:
    """Add ``--threads``, which takes effect when it is parsed."""

    def threads(text: str) -> int:
        torch.set_num_threads(int(text))
        return int(text)

    script.add_argument("--threads", type=threads, metavar="N", help="CPU threads")


def command() -> str:
    """The command of the running script; of paths only the names, not those of this machine."""
    module = Path(sys.argv[0]).resolve().relative_to(ROOT).with_suffix("")
    module = module.parent if module.name == "__main__" else module
    arguments = [Path(text).name if "/" in text else text for text in sys.argv[1:]]
    return shlex.join(["python", "-m", ".".join(module.parts), *arguments])


def write(target: str | None, facts: dict[str, Any], device: torch.device = CPU) -> None:
    """Write the command, the machine and ``facts`` to the JSON file ``target``, if given."""
    if target:
        write_json(target, {"command": command(), **describe(device), **facts})


def in_turn(timers: Mapping[Key, Callable[[], float]], rounds: int) -> dict[Key, list[float]]:
    """The seconds of every timer in every round. All are called in turn, so that other load of the
    machine slows them alike."""
    seconds: dict[Key, list[float]] = {key: [] for key in timers}
    for _ in range(rounds):
        for key, timer in timers.items():
            seconds[key].append(timer())
    return seconds
