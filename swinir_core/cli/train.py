"""``swinir train``: a configuration file in, trained weights out."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec

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
    from ..training.settings.files import (
        OPTIONS,
        ConfigError,
        find_config,
        read_config,
        ready_configs,
    )

    if args.list:
        for name, path in ready_configs().items():
            first = path.read_text(encoding="utf-8").splitlines()[0]
            print(f"{name:<22} {first.removeprefix('# ')}")
        return 0
    options = {name: getattr(args, name.replace("-", "_")) for name in OPTIONS}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        path = find_config(args.config)
        if args.show:
            sys.stdout.write(path.read_text(encoding="utf-8"))
            return 0
        config = read_config(path, given)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    # Only here, so that --list, --show and a wrong setting are answered without torch.
    from ..devices import is_out_of_memory
    from ..training.settings.settings import SettingError
    from ..training.start import train as run

    try:
        return 0 if run(config, args.resume) else STOPPED
    except SettingError as error:
        raise UsageError(f"{path}: {error}.") from error
    except (ValueError, FloatingPointError) as error:
        reason = str(error)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        reason = (
            "the device ran out of memory; raise parts under [data], then lower batch or patch, or "
            "start more processes. What was saved is whole."
        )
    report_error(reason)
    return 1
