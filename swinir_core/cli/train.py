"""``swinir train``: a configuration file in, trained weights out."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .options import UsageError
from .output import report_error

STOPPED = 130
_EXTRA = ("accelerate", "matplotlib", "pydantic")


def train(args: argparse.Namespace) -> int:
    """Train, or print what ``--list`` and ``--show`` ask for.

    Returns 0, or 130 after Ctrl-C or SIGTERM, when the run is saved and can be resumed.
    """
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
    """Settings that the command line replaces, by the names of ``read_config``."""
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
        print(f"{name:<22} {first.removeprefix('# ')}")
    return 0


def _train(path: Path, given: dict[str, Any], resume: bool) -> int:
    from ..training.settings.files import read_config
    from ..training.settings.settings import SettingError

    config = read_config(path, given)
    # Only here, so that --list, --show and a wrong setting are answered without torch.
    from ..devices import is_out_of_memory
    from ..training.start import train as run

    try:
        return 0 if run(config, resume) else STOPPED
    except SettingError as error:
        raise UsageError(f"{path}: {error}.") from error
    except (ValueError, FloatingPointError) as error:
        reason = str(error)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = (
            "the device ran out of memory; lower batch or patch under [data], or start more "
            "processes. What was saved is whole."
        )
    report_error(reason)
    return 1
