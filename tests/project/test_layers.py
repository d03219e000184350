"""Import rules that import-linter cannot check; the others are in pyproject.toml."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NODES = sorted(ROOT.glob("nodes/**/*.py"))
NOT_FOR_NODES = {"image_files", "evaluation", "training", "benchmark", "cli"}
NOT_IN_COMFYUI = ("tifffile", "imagecodecs", "tqdm", "accelerate", "pydantic", "matplotlib")

IMPORT = f"""
import importlib, sys
sys.modules |= dict.fromkeys({NOT_IN_COMFYUI})  # Importing them fails.
for name in sys.argv[1:]:
    module, _, attribute = name.rpartition(".")
    getattr(importlib.import_module(module), attribute)
"""


def imported_from_core(module: Path) -> set[str]:
    """Names that a module imports from the core, such as ``swinir_core.errors.Cancelled``."""
    return {
        f"{statement.module}.{alias.name}"
        for statement in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(statement, ast.ImportFrom) and statement.module
        for alias in statement.names
        if statement.module.partition(".")[0] == "swinir_core"
    }


@pytest.mark.parametrize("module", NODES, ids=lambda path: path.stem)
def test_nodes_import_no_package_that_they_must_not(module: Path) -> None:
    names = imported_from_core(module)
    assert {name for name in names if name.split(".")[1] in NOT_FOR_NODES} == set()


def test_nodes_import_what_runs_without_packages_that_a_comfyui_lacks() -> None:
    names = set[str]().union(*map(imported_from_core, NODES))
    assert "swinir_core.Restorer" in names
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, *names], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_imports_inside_the_pack_are_relative() -> None:
    """The folder of the pack has any name in a host."""
    found = {
        f"{path.name}:{statement.lineno}"
        for path in [*ROOT.glob("swinir_core/**/*.py"), *NODES]
        for statement in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(statement, ast.ImportFrom) and not statement.level)
        and (statement.module or "").partition(".")[0] == "swinir_core"
    }
    assert found == set()


def test_package_files_hold_a_docstring_only() -> None:
    """Else importing one module of a package would import others, such as torch for ``--help``."""
    packages = list(ROOT.glob("swinir_core/*/**/__init__.py"))
    assert len(packages) > 10
    full = {str(path) for path in packages if len(ast.parse(path.read_text("utf-8")).body) != 1}
    assert full == set()
