"""Configuration files of training runs: TOML in, checked dataclasses out, and back."""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...checkpoints.names import bundled_file
from ...text import shown
from .settings import (
    DataSettings,
    DegradationSettings,
    LossSettings,
    NetworkSettings,
    RunSettings,
    ScheduleSettings,
    TaskSettings,
)
from .tables import SettingError, Table, as_toml

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
    "device": ("run", "device"),
}
"""Options of the command line, and the setting each replaces: (table, key)."""


class ConfigError(ValueError):
    """A configuration file, or an option that overrides it, cannot be used as it is."""


@dataclass(frozen=True)
class TrainConfig:
    """A whole run. Tables that contradict each other raise ``SettingError``."""

    task: TaskSettings
    data: DataSettings
    schedule: ScheduleSettings
    network: NetworkSettings = field(default_factory=NetworkSettings)
    degradation: DegradationSettings = field(default_factory=DegradationSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        _check_degradation(self.task, self.degradation)
        loss, run = self.loss, self.run
        if self.task.name == "real_sr" and self.task.gray:
            raise self.task.fault("gray", "real-world degradation is made for colour; leave it out")
        if loss.vgg19 and not loss.perceptual_weight:
            raise loss.fault("vgg19", "is not used without a perceptual_weight")
        if loss.critic_features != LossSettings.critic_features and not loss.gan_weight:
            raise loss.fault("critic_features", "is not used without a gan_weight")
        if loss.pixel == "l1" and loss.epsilon != LossSettings.epsilon:
            raise loss.fault("epsilon", 'is not used by pixel = "l1"')
        if run.device == "cpu" and run.precision == "float16":
            raise run.fault("precision", "a CPU trains in float32 or bfloat16")
        if not self.data.train:
            raise SettingError("data", "train", None, "is missing; name folders, or use --data")

    def to_toml(self) -> str:
        """The whole configuration as a file, every value that is not None spelt out, paths from the
        root."""
        lines = []
        for item in dataclasses.fields(self):
            table: Any = getattr(self, item.name)
            lines.append(f"[{item.name}]")
            for key in (part.name for part in dataclasses.fields(table)):
                value = _from_root(key, getattr(table, key))
                lines += [] if value is None else [f"{key} = {as_toml(value)}"]
            lines.append("")
        return "\n".join(lines)


def _check_degradation(task: TaskSettings, given: DegradationSettings) -> None:
    kind = task.name.split("_")[-1]
    needed = {"denoise": "sigma", "jpeg": "quality"}.get(kind)
    for key in ("sigma", "quality"):
        if key == needed and getattr(given, key) is None:
            raise given.fault(key, f"is missing, and {task.name} is trained for it")
        if key != needed and getattr(given, key) is not None:
            raise given.fault(key, f"is not used by {task.name}; leave it out")
    if needed is None and given.validate_at is not None:
        raise given.fault("validate_at", f"is not used by {task.name}; leave it out")


def ready_configs() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    return {path.stem: path for path in sorted(READY_CONFIGS.glob("*.toml"))}


def find_config(path_or_name: str) -> Path:
    """A file, or a ready configuration by name. Raises ``ConfigError``."""
    ready = ready_configs()
    if path_or_name in ready:
        return ready[path_or_name]
    path = Path(path_or_name)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is neither a file nor a ready configuration"
        raise ConfigError(f"{path} {what}; ready are {', '.join(ready)}.")
    return path


def read_config(path: Path, options: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a configuration file.

    Relative paths in it are relative to its folder; in a ready configuration, to the current one.
    ``options`` are values from a command line, named as in ``OPTIONS``, that replace those of the
    file; another number of steps stretches the schedule. Raises ``ConfigError`` with one sentence
    that names the file, or the option, the key and the value.
    """
    options = options or {}
    try:
        tables = _read_tables(path)
        for name, value in options.items():
            table, key = OPTIONS[name]
            if name != "steps":
                tables[table][key] = value
        hints = typing.get_type_hints(TrainConfig)
        config = TrainConfig(**{name: _built(kind, tables[name]) for name, kind in hints.items()})
        if "steps" in options:
            schedule = config.schedule.stretched_to(options["steps"])
            config = dataclasses.replace(config, schedule=schedule)
        _check_encoding(config)
        return config
    except SettingError as error:
        for name in options:
            if OPTIONS[name] == (error.table, error.key):
                raise ConfigError(f"--{name} {as_toml(error.value)}: {error.reason}.") from error
        raise ConfigError(f"{path}: {error}.") from error


def _check_encoding(config: TrainConfig) -> None:
    """Raise ``ConfigError`` where a path has bytes that no settings file can hold."""
    for line in config.to_toml().splitlines():
        if re.search("[\ud800-\udfff]", line):
            raise ConfigError(
                f"{shown(line)}: settings are kept as UTF-8, which this path is not; rename it."
            )


def _read_tables(path: Path) -> dict[str, dict[str, Any]]:
    """Every table of the file, in the types of the dataclasses."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}.") from error
    hints = typing.get_type_hints(TrainConfig)
    for name, values in found.items():
        if name not in hints or not isinstance(values, dict):
            known = ", ".join(f"[{table}]" for table in hints)
            raise ConfigError(f"{path}: {name!r} is not one of the tables {known}.")
    base = Path() if path.parent == READY_CONFIGS else path.parent
    found.setdefault("run", {}).setdefault("out", f"runs/{path.stem}")
    return {name: _converted(found.get(name, {}), kind, base) for name, kind in hints.items()}


def _converted(values: dict[str, Any], kind: type[Table], base: Path) -> dict[str, Any]:
    """Lists to tuples, one number to a range, text to a path where the dataclass wants that."""
    hints = {item.name: typing.get_type_hints(kind)[item.name] for item in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    converted = {}
    for key, value in values.items():
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1)
            advice = f"did you mean {near[0]}?" if near else f"keys are {', '.join(hints)}"
            raise SettingError(kind.table, key, value, f"there is no such key; {advice}")
        wanted = str(hints[key])
        is_range = wanted.startswith("tuple") and "None" in wanted and "..." not in wanted
        if isinstance(value, list):
            value = tuple(_path(part, base) if "Path" in wanted else part for part in value)
        elif "Path" in wanted:
            value = Path(value) if _is_bundled(key, value) else _path(value, base)
            value = (value,) if "tuple" in wanted and isinstance(value, Path) else value
        elif is_range and type(value) in (int, float):
            value = (value, value)
        converted[key] = value
    return converted


def _path(value: Any, base: Path) -> Any:
    """Text as a path from ``base``; anything else as it is, to be refused with its key."""
    return base / Path(value).expanduser() if isinstance(value, str) and value else value


def _is_bundled(key: str, value: Any) -> bool:
    return key == "start_from" and bundled_file(value) is not None


def _from_root(key: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_from_root(key, part) for part in value)
    return value.absolute() if isinstance(value, Path) and not _is_bundled(key, value) else value


def _built(kind: type[Any], values: dict[str, Any]) -> Any:
    for item in dataclasses.fields(kind):
        if item.default is dataclasses.MISSING and item.name not in values:
            raise SettingError(kind.table, item.name, None, "is missing")
    return kind(**values)
