"""What a bundle holds: a header, and the answers to catalog questions. See `file` for how it is written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
FORMAT, VERSION = "indexpilot-bundle", 1


@dataclass(frozen=True, slots=True)
class Cost:
    """What the capture cost the target: statements sent, ms of their round trips, bytes of the answers as text."""

    statements: int
    ms: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Header:
    """`captured_at` is ISO 8601 by the target's clock. `lost` names what `--redact` took away; empty: nothing was.
    `notes` (cleaned) tell what could not be read."""

    captured_at: str
    made_by: str
    database: str
    session_user: str
    server_version: int
    in_recovery: bool
    redacted: bool
    relations: int
    statements: int | None  # None: pg_stat_statements is not there, or may not be read
    cost: Cost
    lost: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Bundle:
    """`answers` has the rows by question (`whatif/columns`). Texts are as the server gave them: never shown uncleaned."""

    header: Header
    answers: dict[str, list[Row]]
    name: str = ""  # of the file, cleaned, for messages
    _groups: dict[tuple[str, str], Mapping[Any, list[Row]]] = field(default_factory=dict, repr=False)

    def grouped(self, question: str, key: str) -> Mapping[Any, list[Row]]:
        """The rows of a question by one of their columns; made once."""
        if (question, key) not in self._groups:
            groups: dict[Any, list[Row]] = {}
            for row in self.answers.get(question, []):
                groups.setdefault(row[key], []).append(row)
            self._groups[question, key] = groups
        return self._groups[question, key]

    def pick(self, question: str, key: str, wanted: Iterable[Any]) -> list[Row]:
        """The rows whose `key` is one of `wanted`, in the order of `wanted`."""
        groups = self.grouped(question, key)
        return [row for value in dict.fromkeys(wanted) for row in groups.get(value, [])]
