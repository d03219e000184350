"""The host's modules and our pack in one process without a server, for scripts its Python runs."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def start_host(home: Path, flags: list[str]) -> None:
    """Make ``import comfy`` possible, with the host's command line set to ``flags``."""
    sys.argv[1:] = flags
    sys.path.insert(0, str(home))
    import comfy.options

    comfy.options.enable_args_parsing()


def load_pack(pack: Path) -> Any:
    """The nodes of the pack, under the kind of name that the host gives it."""
    name = str(pack).replace(".", "_x_")  # As the host does: a dot would part packages.
    spec = importlib.util.spec_from_file_location(name, pack / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
    return sys.modules[f"{name}.nodes"]


def error_of(action: Callable[[], object]) -> BaseException | None:
    """What ``action`` raises. There is no pytest in the environment of a host."""
    try:
        action()
    except BaseException as error:
        return error
    return None


def report(functions: Mapping[str, Any]) -> None:
    """Call every ``check_`` function and print, as the last line, a JSON object of their names and
    what went wrong."""
    results = {}
    for name, check in list(functions.items()):
        if name.startswith("check_"):
            try:
                check()
                results[name] = ""
            except BaseException:
                results[name] = traceback.format_exc()
    print(json.dumps(results))  # noqa: T201 - this is how the answer leaves the process
