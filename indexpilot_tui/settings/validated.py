"""Plain sections made of data from outside, and data made of them. The only place that loads the validator."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

__all__ = ["ValidationError", "plain", "validated", "validated_json", "what_is_wrong"]

T = TypeVar("T")


_WORDS = {
    "dict_type": "must hold keys and values",
    "dataclass_type": "must hold keys and values",
    "finite_number": "must be a finite number",
    "invalid_key": "a key must be a word",
    "missing": "is missing",
    "unexpected_keyword_argument": "there is no such key",
}
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


def what_is_wrong(kind: str, message: str) -> str:
    """One fault of a ValidationError for an operator, of its `type` and `msg`."""
    return _WORDS.get(kind) or message.removeprefix("Value error, ").replace("Input should be", "must be")
