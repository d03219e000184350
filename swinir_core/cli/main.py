"""The ``swinir`` command: dispatch, and the exit status of failures.

Exit status: 0 on success, 1 where a file failed, 2 for wrong usage, 130 after Ctrl-C, 141 where
who reads the output has closed it.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module, metadata

from ..errors import CheckpointError, ImageError
from .options import UsageError, parser
from .output import report_error

_MODULES = {"info": "models", "convert": "models", "blend": "models"}
"""Modules of the commands whose module has another name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; ``argv`` is without the program's name."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name that the terminal cannot show must not stop the run.
            stream.reconfigure(errors="backslashreplace")
    args = parser(version()).parse_args(argv)
    try:
        # Imported only now, because all commands need torch, which help and typing errors do not.
        module = import_module(f".{_MODULES.get(args.command, args.command)}", __package__)
        status = getattr(module, args.command)(args)
        sys.stdout.flush()  # A closed pipe shows here, not when the interpreter ends.
        return status
    except BrokenPipeError:
        # The interpreter flushes once more; what is left has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (UsageError, ImageError) as error:
        return _fail(error, 2)
    except (CheckpointError, OSError) as error:
        return _fail(error, 1)
    except KeyboardInterrupt:
        return _fail("interrupted; finished files are kept.", 130)


def _fail(error: Exception | str, status: int) -> int:
    report_error(error)
    return status


def version() -> str:
    """The version of this package."""
    try:
        return metadata.version("swinir-restore")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"
