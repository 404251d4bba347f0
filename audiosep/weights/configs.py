"""Frozen dataclasses from plain JSON data and back; an unknown key is an error."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from audiosep.errors import ConfigError

T = TypeVar("T")


def from_dict(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass `cls` from JSON data.

    Args:
        cls: a dataclass; nested dataclasses, tuples, optionals, literals and dictionaries are understood.
        data: keys are field names.
        where: dotted path of `data` in the whole configuration, for error messages.

    Returns:
        The dataclass.

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong type; the message has its path.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where or cls.__name__}: expected an object with named values, got {data!r}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]  # T is a dataclass
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise ConfigError(
            f"{where or cls.__name__}: unknown key {unknown[0]!r}; known keys: {', '.join(sorted(fields))}"
        )
    hints = get_type_hints(cls)
    values = {name: _value(hints[name], value, f"{where}.{name}".lstrip(".")) for name, value in data.items()}
    required = (dataclasses.MISSING, dataclasses.MISSING)
    missing = [n for n, f in fields.items() if n not in values and (f.default, f.default_factory) == required]
    if missing:
        raise ConfigError(f"{where or cls.__name__}: missing key {missing[0]!r}")
    return cls(**values)


def to_dict(config: Any) -> dict[str, Any]:
    """The JSON data from which `from_dict` builds an equal dataclass; tuples become lists.

    Args:
        config: a dataclass.
    """
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return value


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _union(args, value, where)
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        return _tuple(args, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected an object, got {value!r}")
        return {k: _value(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where) if isinstance(hint, type) else value
    return _scalar(hint, value, where)


def _union(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in args:
        return None
    errors = []
    # Of several dataclasses the one that knows the most of the keys is meant.
    for arg in sorted(args, key=lambda arg: _unknown(arg, value)):
        if arg is not type(None):
            try:
                return _value(arg, value, where)
            except ConfigError as error:
                errors.append(error)
    raise errors[0]


def _unknown(kind: Any, value: Any) -> int:
    """How many keys of an object are no fields of a dataclass."""
    if not dataclasses.is_dataclass(kind) or not isinstance(value, Mapping):
        return 0
    return len(set(value) - {f.name for f in dataclasses.fields(kind)})


def _tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, got {value!r}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_value(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if len(args) != len(value):
        raise ConfigError(f"{where}: expected {len(args)} values, got {len(value)}")
    return tuple(_value(a, v, f"{where}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r}")
