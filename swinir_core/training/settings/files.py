"""Configuration files of training runs: finding, reading and checking them."""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...text import shown
from .settings import CONFIG, SettingError, TrainConfig, as_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

READY_CONFIGS = Path(__file__).parent / "ready"

OPTIONS = {
    "data": ("data", "train"),
    "validate": ("data", "validate"),
    "out": ("run", "out"),
    "steps": ("schedule", "steps"),
    "start-from": ("run", "start_from"),
    "teacher": ("teacher", "file"),
    "device": ("run", "device"),
}
"""Options of the command line, and the setting each replaces: (table, key)."""


class ConfigError(ValueError):
    """A configuration file, or an option that overrides it, cannot be used."""


_KINDS = typing.get_type_hints(TrainConfig)
"""The classes of the tables, by name."""

_REASONS = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "string_type": "must be text in quotes",
    "bool_type": "must be true or false",
    "greater_than_equal": "must be at least {}",
    "greater_than": "must be above {}",
    "less_than": "must be below {}",
    "less_than_equal": "must be at most {}",
    "tuple_type": "must be a list",
    "too_long": "must be two numbers, as [low, high]",
}
"""By pydantic's type of an error; {} is the limit, the last word of its message."""


def ready_configs() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    return {path.stem: path for path in sorted(READY_CONFIGS.glob("*.toml"))}


def find_config(path_or_name: str) -> Path:
    """Find a file, or a ready configuration by name. Raises ``ConfigError``."""
    ready = ready_configs()
    if path_or_name in ready:
        return ready[path_or_name]
    path = Path(path_or_name)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is neither a file nor a ready configuration"
        raise ConfigError(f"{path} {what}; ready are {', '.join(ready)}.")
    return path


def read_config(path: Path, options: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read and check a configuration file.

    Args:
        path: a TOML file. Relative paths in it are relative to its folder; in a ready
            configuration, to the current one.
        options: values from a command line, named as in ``OPTIONS``, that replace those of the
            file. Another number of steps stretches the schedule.

    Raises:
        ConfigError: with one sentence that names the file, or the option, the key and the value.
    """
    options = options or {}
    tables = _read_tables(path)
    base = Path() if path.parent == READY_CONFIGS else path.parent
    for name, value in options.items():
        table, key = OPTIONS[name]
        if name != "steps":
            tables[table][key] = value
    try:
        config = _checked(tables, base)
        if "steps" in options:
            tables["schedule"] = config.schedule.stretched_to(options["steps"])
            config = _checked(tables, base)
    except SettingError as error:
        for name in options:
            if OPTIONS[name] == (error.table, error.key):
                raise ConfigError(f"--{name} {as_toml(error.value)}: {error.reason}.") from error
        raise ConfigError(f"{path}: {error}.") from error
    _check_encoding(config)
    return config


def _read_tables(path: Path) -> dict[str, dict[str, Any]]:
    """Read every table of the file; missing ones are empty. Raises ``ConfigError``."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}.") from error
    for name, values in found.items():
        if name not in _KINDS or not isinstance(values, dict):
            known = ", ".join(f"[{table}]" for table in _KINDS)
            raise ConfigError(f"{path}: {name!r} is not one of the tables {known}.")
    found.setdefault("run", {}).setdefault("out", f"runs/{path.stem}")
    return {name: found.get(name, {}) for name in _KINDS}


def _checked(tables: dict[str, dict[str, Any]], base: Path) -> TrainConfig:
    """Check all values. Raises ``SettingError`` for the first fault, with the value of the file."""
    try:
        return CONFIG.validate_python(tables, context=base)
    except ValidationError as error:
        first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, SettingError):
        value = tables[cause.table].get(cause.key, cause.value)
        raise SettingError(cause.table, cause.key, value, cause.reason)
    table, key, *inner = map(str, first["loc"])
    value = tables[table].get(key)
    if first["type"] == "unexpected_keyword_argument":
        keys = [item.name for item in dataclasses.fields(_KINDS[table])]
        near = difflib.get_close_matches(key, keys, n=1)
        advice = f"did you mean {near[0]}?" if near else f"keys are {', '.join(keys)}"
        raise SettingError(table, key, value, f"there is no such key; {advice}")
    kind = "too_long" if inner and first["type"] == "missing" else first["type"]
    reason = str(cause or _REASONS[kind].format(first["msg"].split()[-1]))
    if inner and kind != "too_long" and isinstance(value, list):
        reason = f"each {reason}"
    raise SettingError(table, key, value, reason)


def _check_encoding(config: TrainConfig) -> None:
    """Raise ``ConfigError`` for a path with bytes that are not UTF-8, as settings files are."""
    for line in config.to_toml().splitlines():
        if re.search("[\ud800-\udfff]", line):
            raise ConfigError(
                f"{shown(line)}: settings are kept as UTF-8, which this path is not; rename it."
            )
