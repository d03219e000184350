"""``swinir train``: a configuration file in, trained weights out."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .restore import UsageError, not_empty, path_argument, sentence

_EXAMPLES = """\
examples:
  swinir train --list
  swinir train laptop_denoise --data photographs/ --out runs/denoise
  swinir train laptop_denoise --data photographs/ --out runs/denoise --resume
  swinir train laptop_denoise --show > my.toml
  swinir train my.toml
  torchrun --nproc_per_node 2 -m swinir_core train my.toml
"""
STOPPED = 130
_EXTRA = ("accelerate", "matplotlib", "pydantic")


def add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    command = commands.add_parser(
        "train",
        help="train a network on your own images",
        description=(
            "Train as a TOML file says, or as one of the ready configurations does. Options "
            "replace what is in the file."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = command.add_argument
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "config",
        metavar="CONFIG",
        type=not_empty,
        nargs="?",
        help="TOML file, or the name of a ready configuration",
    )
    what.add_argument("--list", action="store_true", help="list the ready configurations")
    add("--show", action="store_true", help="print the configuration file, to be edited")
    add(
        "--data",
        nargs="+",
        type=path_argument,
        metavar="DIR",
        help="folders of images to train on",
    )
    add("--validate", type=path_argument, metavar="DIR", help="folder of images to score")
    add("--out", type=path_argument, metavar="DIR", help="folder for weights, state and log")
    add("--steps", type=int, metavar="N", help="length of the run; the schedule is stretched")
    add(
        "--start-from",
        type=path_argument,
        metavar="MODEL",
        help="model file or bundled model whose fitting weights are taken over",
    )
    add("--device", choices=("auto", "cpu"), help="a GPU if there is one, or cpu")
    add("--resume", action="store_true", help="continue the run in the output folder")
    command.set_defaults(run=train)


def train(args: argparse.Namespace) -> int:
    """Returns 0 for a finished run and 130 for one stopped by Ctrl-C or SIGTERM, which is saved
    and can be resumed."""
    missing = [name for name in _EXTRA if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"training needs {' and '.join(missing)}; install with "
            'pip install "swinir-restore[train]".'
        )
    from ..training.settings.files import ConfigError, find_config

    try:
        if args.list:
            return _list()
        if args.show:
            sys.stdout.write(find_config(args.config).read_text(encoding="utf-8"))
            return 0
        return _train(find_config(args.config), options(args), args.resume)
    except ConfigError as error:
        raise UsageError(str(error)) from error


def options(args: argparse.Namespace) -> dict[str, Any]:
    """What the command line replaces in the configuration, as ``read_config`` takes it."""
    given = {
        "data": tuple(args.data) if args.data else None,
        "validate": args.validate,
        "out": args.out,
        "steps": args.steps,
        "start-from": args.start_from,
        "device": args.device,
    }
    return {name: value for name, value in given.items() if value is not None}


def _list() -> int:
    from ..training.settings.files import ready_configs

    for name, path in ready_configs().items():
        first = path.read_text(encoding="utf-8").splitlines()[0]
        sys.stdout.write(f"{name:<22} {first.removeprefix('# ')}\n")
    return 0


def _train(path: Path, given: dict[str, Any], resume: bool) -> int:
    from ..training.settings.files import read_config
    from ..training.settings.settings import SettingError

    config = read_config(path, given)
    from ..devices import is_out_of_memory
    from ..training.start import train as run

    try:
        return 0 if run(config, resume) else STOPPED
    except SettingError as error:
        raise UsageError(f"{path}: {error}.") from error
    except (ValueError, FloatingPointError) as error:
        reason = sentence(error)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = (
            "the device ran out of memory; lower batch or patch under [data], or start more "
            "processes. What was saved is whole."
        )
    sys.stderr.write(f"swinir: error: {reason}\n")
    return 1
