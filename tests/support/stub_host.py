"""Our nodes without a host: what they import of it is stubs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest

ROOT = Path(__file__).parents[2]
_PACK = "pack_without_host"


@contextmanager
def nodes_without_host(monkeypatch: pytest.MonkeyPatch, **folder_paths: Any) -> Iterator[Any]:
    """The modules of ``nodes`` by their names, in a host whose ``folder_paths`` is as given."""
    folders, latest, pack = map(ModuleType, ("folder_paths", "comfy_api.latest", _PACK))
    folders.__dict__.update(folder_paths)
    latest.__dict__.update(io=MagicMock(ComfyNode=object), ComfyExtension=object)
    pack.__path__ = [str(ROOT)]
    stubs = {"folder_paths": folders, "comfy_api": ModuleType("comfy_api"), "nodes": MagicMock()}
    stubs |= {"comfy_api.latest": latest, "comfy": MagicMock(), _PACK: pack}
    stubs |= {f"comfy.{name}": MagicMock() for name in ("model_patcher", "ops", "utils")}
    stubs["comfy.model_management"] = stubs["comfy"].model_management
    for name, module in stubs.items():
        monkeypatch.setitem(sys.modules, name, module)
    try:
        yield importlib.import_module(f"{_PACK}.nodes")
    finally:
        for name in [name for name in sys.modules if name.startswith(_PACK)]:
            del sys.modules[name]
