"""Other values in place of real ones: in the same order, and equal where they were equal. Pure.

Values of a kind of type are learned over all columns first, then each gets the number of its place in their order.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_LENGTH = re.compile(r"^(?:character varying|character|bpchar|varchar)\((\d+)\)$")
_NUMERIC = re.compile(r"^numeric\((\d+),(-?\d+)\)$")
_SPECIAL = {"NaN", "Infinity", "-Infinity", "infinity", "-infinity"}
_START = datetime(2000, 1, 1)
TIMES = ("date", "timestamp", "timestamptz")
_SHORT = 8  # text types of at most this length have an order of their own, for their values to fit


def kind_of(type_: str) -> str:
    """The kind of a type as format_type writes it: `int`, `text`, `date` ..., with the limits that a value must keep to.
    `keep`: its values say nothing; `none`: no order is known here; `[]` at the end: an array."""
    if type_.endswith("[]"):
        inner = kind_of(type_[:-2])
        return f"{inner}[]" if inner in ("text", "int", "uuid") else "none[]"
    if type_ in ("integer", "bigint", "oid"):
        return "int"
    if type_ == "smallint":
        return "smallint"
    if type_ in ("numeric", "real", "double precision"):
        return "number"
    if found := _NUMERIC.match(type_):
        return f"number:{found[1]}:{found[2]}"
    if type_ in {"date", "uuid"}:
        return type_
    if type_.startswith("timestamp"):
        return "timestamptz" if type_.endswith("with time zone") else "timestamp"
    if type_ == "boolean":
        return "keep"
    if found := _LENGTH.match(type_):
        return f"text:{found[1]}" if int(found[1]) <= _SHORT else "text"
    if type_ in ("character varying", "character", "text", "citext", "name", "tsvector"):
        return "text[]" if type_ == "tsvector" else "text"
    return "none"


class Disguise:
    """`learn` every value, `settle`, then ask with `of`. `kept` are texts that stay as they are."""

    def __init__(self, kept: set[str]) -> None:
        self._kept = kept
        self._seen: dict[str, set[str]] = {}
        self._new: dict[str, dict[str, str]] = {}
        self._unreadable: set[str] = set()

    def guess(self, values: Sequence[str]) -> str:
        """The kind of values whose type is not known: whole numbers fit text as well, so they are tried first."""
        for kind in ("int", "timestamptz", "date", "uuid"):
            if values and all(self._readable(kind, v) for v in values):
                return kind
        return "text"

    def _readable(self, kind: str, value: str) -> bool:
        try:
            _sortable(kind, value)
        except (ValueError, InvalidOperation):
            return False
        return True

    def learn(self, kind: str, values: Iterable[str]) -> None:
        if kind.split(":", maxsplit=1)[0] not in ("keep", "none"):
            self._seen.setdefault(kind, set()).update(values)

    def settle(self) -> None:
        """Give every learned value its new one."""
        for kind, seen in self._seen.items():
            fixed = {v for v in seen if v in _SPECIAL or (kind.startswith("text") and v in self._kept)}
            keyed = []
            for value in seen - fixed:
                with contextlib.suppress(ValueError, InvalidOperation):  # it gets none, and its column is named as lost
                    keyed.append((_sortable(kind, value), value))
            keyed.sort()
            ranked = [value for _, value in keyed]
            made = _values(kind, ranked)
            self._new[kind] = {v: v for v in fixed} | (dict(zip(ranked, made, strict=True)) if made is not None else {})

    def of(self, kind: str, values: Sequence[str]) -> list[str] | None:
        """The new values; None when one of them has none (its type has no order here, or it could not be read)."""
        if kind == "keep":
            return list(values)
        new = self._new.get(kind, {})
        if any(v not in new for v in values):
            return None
        return [new[v] for v in values]

    def order(self, kind: str) -> Callable[[str], Any]:
        """A sort key for new values."""
        if kind == "keep":
            return lambda _: 0  # as they come: a stable sort leaves them
        return lambda value: _sortable(kind, value)


def _sortable(kind: str, value: str) -> Any:
    """What a value sorts by. Raises ValueError or decimal.InvalidOperation for one that is not of its kind."""
    base = kind.split(":", maxsplit=1)[0]
    if base in ("int", "smallint"):
        return int(value)
    if base == "number":
        return {"NaN": Decimal("1e400000"), "-Infinity": Decimal("-1e400000"), "Infinity": Decimal("1e399999")}.get(
            value
        ) or Decimal(value)
    if base in TIMES:
        far = {"infinity": float("inf"), "-infinity": float("-inf")}.get(value)
        return far if far is not None else _seconds(base, value)
    if base == "uuid":
        if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value):
            raise ValueError(value)
        return value
    # words first, then the rest: near to what the common locales do, and one order for all collations
    return "".join(c for c in value.casefold() if c.isalnum()), value


def _seconds(base: str, value: str) -> float:
    if base == "date":
        return (date.fromisoformat(value) - _START.date()).total_seconds()
    found = datetime.fromisoformat(value)
    if (found.tzinfo is not None) != (base == "timestamptz"):
        raise ValueError(value)
    return (found.replace(tzinfo=None) - _START - (found.utcoffset() or timedelta())).total_seconds()


def _values(kind: str, ranked: Sequence[str]) -> list[str] | None:
    """As many new values as there are old ones, in order; None when so many do not fit the type."""
    base, *limits = kind.split(":")
    count = len(ranked)
    if base in ("int", "smallint"):
        start = 1 if base == "int" or count < 32_767 else -(count // 2)
        return [str(start + n) for n in range(count)] if base == "int" or count < 65_000 else None
    if base == "number":
        return _numbers(count, limits)
    if base in TIMES:
        return _times(base, ranked)
    if base == "uuid":
        return [f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in (f"{n:032x}" for n in range(1, count + 1))]
    width = len(_base36(count, 0))
    if limits:
        return [_base36(n, width) for n in range(1, count + 1)] if width <= int(limits[0]) else None
    return ["v" + _base36(n, width) for n in range(1, count + 1)]


def _base36(number: int, width: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits.rjust(width, "0")


def _numbers(count: int, limits: Sequence[str]) -> list[str] | None:
    if not limits:
        return [str(n) for n in range(1, count + 1)]
    precision, scale = int(limits[0]), int(limits[1])
    start = 1 if count < 10**precision else -(count // 2)
    unit = Decimal(1).scaleb(-scale)
    return [f"{(start + n) * unit:f}" for n in range(count)] if count < 2 * 10**precision else None


def _times(base: str, ranked: Sequence[str]) -> list[str]:
    """Spread evenly from the first day of the first year to the last day, so that `now() - interval` stays in place."""
    if not ranked:
        return []
    low, high = _seconds(base, ranked[0]), _seconds(base, ranked[-1])
    first = datetime((_START + timedelta(seconds=low)).year, 1, 1)
    last = (_START + timedelta(seconds=high)).replace(hour=0, minute=0, second=0, microsecond=0)
    room = max((last - first).total_seconds(), 0.0)
    if base == "date":
        # distinct days lie between the ends, and there is one for each
        days = max(int(room // 86_400), len(ranked) - 1)
        return [(first.date() + timedelta(days=days * n // max(1, len(ranked) - 1))).isoformat() for n in range(len(ranked))]
    step = max(room / max(1, len(ranked) - 1), 1e-6)
    made = [first + timedelta(microseconds=round(step * n * 1e6)) for n in range(len(ranked))]
    return [m.isoformat(sep=" ") + ("+00" if base == "timestamptz" else "") for m in made]
