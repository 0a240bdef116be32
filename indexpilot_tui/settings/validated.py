"""Plain sections made of data from outside, and data made of them. The only place that loads the validator."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

__all__ = ["ValidationError", "plain", "validated", "validated_json"]

T = TypeVar("T")


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def validated(kind: type[T], data: Any) -> T:
    """A section of `kind` of nested dicts, each value within its limits. Raises ValidationError with every fault."""
    made: T = _adapter(kind).validate_python(data)
    return made


def validated_json(kind: type[T], text: str) -> T:
    """The same of a JSON object."""
    made: T = _adapter(kind).validate_json(text)
    return made


def plain(section: Any) -> dict[str, Any]:
    """A section as nested dicts of what JSON knows; `validated` makes the same section of them."""
    data: dict[str, Any] = _adapter(type(section)).dump_python(section, mode="json")
    return data
