"""What every section of the settings is: a plain frozen dataclass whose annotations say what is valid.

The limits are read by `settings.validated` alone: a console that runs for weeks holds plain values, not their validator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def section(cls: type[T]) -> type[T]:
    """A frozen dataclass, given by keyword. Made of data from outside it refuses unknown keys, and figures that are none: a
    limit of infinity is no limit, and null says so where that may be."""
    cls.__pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # type: ignore[attr-defined]
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


@dataclass(frozen=True, slots=True)
class Check:
    """Annotates a value with a function that returns it, or raises ValueError with what is wrong."""

    function: Callable[[Any], Any]

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.function, handler(source))
