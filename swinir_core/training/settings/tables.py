"""Dataclasses whose fields are checked for type and limits, each a table of a settings file."""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

_KINDS = {
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    bool: "true or false",
    Path: "a path in quotes",
}


class SettingError(ValueError):
    """A setting that cannot be; the message is one sentence with table, key, value and reason.

    ``value`` is None for a setting that is missing, ``key`` is "" for a whole table.
    """

    def __init__(self, table: str, key: str, value: object, reason: str) -> None:
        self.table, self.key, self.value, self.reason = table, key, value, reason
        place = f"[{table}] {key}" if key else f"[{table}]"
        shown = "" if value is None else f" = {as_toml(value)}"
        super().__init__(f"{place}{shown}: {reason}")


class Table:
    """Base of the settings dataclasses. ``table`` is the name in a file."""

    table: ClassVar[str]

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for item in dataclasses.fields(self):  # pyright: ignore[reportArgumentType]
            value = getattr(self, item.name)
            reason = type_fault(value, hints[item.name]) or _limit_fault(value, item.metadata)
            if reason:
                raise self.fault(item.name, reason)

    def fault(self, key: str, reason: str) -> SettingError:
        """The error to raise for the value of ``key``."""
        return SettingError(self.table, key, getattr(self, key), reason)


def setting(default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """A field with limits: ``at_least``, ``above``, ``below`` or ``choices``."""
    return dataclasses.field(default=default, metadata=limits)


def type_fault(value: object, hint: Any) -> str | None:
    """Why ``value`` is not of the type ``hint``; None where it is."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and types.NoneType in kinds:
        return None
    kind = kinds[0]
    if typing.get_origin(kind) is tuple:
        return _tuple_fault(value, kind)
    fits = isinstance(value, kind) if kind is Path else type(value) is kind
    if kind is float:
        fits = type(value) in (int, float) and math.isfinite(typing.cast(float, value))
    return None if fits else f"must be {_KINDS[kind]}"


def _tuple_fault(value: object, kind: Any) -> str | None:
    inner, *more = typing.get_args(kind)
    plural = _KINDS[inner].split(" ", 1)[1].replace("number", "numbers").replace("path", "paths")
    pair = more != [Ellipsis]
    fits = isinstance(value, tuple) and not any(type_fault(part, inner) for part in value)
    if fits and (not pair or len(typing.cast(tuple, value)) == 2):
        return None
    return f"must be {'two' if pair else 'a list of'} {plural}{', as [low, high]' * pair}"


def _limit_fault(value: Any, limits: Mapping[str, Any]) -> str | None:
    if value is None:
        return None
    if "choices" in limits and value not in limits["choices"]:
        return f"must be one of {', '.join(limits['choices'])}"
    if "at_least" in limits and value < limits["at_least"]:
        return f"must be at least {limits['at_least']}"
    if "above" in limits and value <= limits["above"]:
        return f"must be above {limits['above']}"
    if "below" in limits and value >= limits["below"]:
        return f"must be below {limits['below']}"
    return None


def as_toml(value: object) -> str:
    """A value as it is written in a TOML file."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, (str, Path)):
        # JSON allows one character that TOML does not.
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else str(value)
