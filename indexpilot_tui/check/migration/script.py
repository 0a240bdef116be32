"""A migration file as steps: each statement parsed by PostgreSQL's own parser, with its line and the session state that it
would run in (transaction block, lock_timeout, search_path). Pure but for reading the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import UsageError

MAX_BYTES = 5_000_000
_META = re.compile(r"^\\\w+.*$", re.MULTILINE)  # psql's own commands: \set, \c ...
_NO_TIMEOUT = {"0", "0ms", "0s", ""}


@dataclass(frozen=True, slots=True)
class Step:
    """One statement. `node` is its parse tree, None when the parser refused it (`error`, cleaned). `path` is the
    search_path that the file set before it, None: the session's own."""

    number: int
    line: int
    text: str
    kind: str
    node: Any = field(repr=False)
    in_transaction: bool = False
    lock_timeout: bool = False
    path: tuple[str, ...] | None = None
    error: str = ""

    @property
    def shown(self) -> str:
        return clean_line(self.text, 300)


def read_migration(path: Path) -> list[Step]:
    """The statements of a file. Raises UsageError for a file that cannot be read or told apart into statements."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _bad(path, f"the file is larger than {MAX_BYTES // 1_000_000} MB")
        text = path.read_text("utf-8-sig")
    except OSError as exc:
        raise _bad(path, f"the file cannot be read: {exc.strerror}") from None
    except UnicodeDecodeError as exc:
        raise _bad(path, f"the file is not UTF-8 (byte {exc.start})") from None
    steps = list(steps_of(text, path))
    if not steps:
        raise _bad(path, "there is no statement in the file")
    return steps


def _bad(path: Path, message: str) -> UsageError:
    return UsageError(message, field="migration", value=clean_line(str(path), 300), remedy="give a file of SQL statements")


def steps_of(text: str, path: Path = Path("migration")) -> Iterator[Step]:
    """The statements of a text, in order. Raises UsageError when they cannot be told apart."""
    import postgast

    if "\x00" in text:
        raise _bad(path, "there is a NUL character in the file")
    # a command of psql ends with its line; it becomes as many blanks, so that lines and columns stay
    text = _META.sub(lambda m: " " * len(m[0]), text)
    try:
        parts = postgast.split(text, method="scanner")
    except postgast.PgQueryError as exc:
        raise _bad(path, f"the statements cannot be told apart: {clean_line(str(exc), 200)}") from None
    state, at, number = _Session(), 0, 0
    for part in parts:
        start = text.index(part, at)
        at = start + len(part)
        lead = len(part) - len(_without_comments(part))
        if not part[lead:].strip():
            continue
        number += 1
        step = _step(number, text.count("\n", 0, start + lead) + 1, part[lead:].strip(), state)
        state.after(step)
        yield step


def _without_comments(text: str) -> str:
    """The text from its first token on."""
    return re.sub(r"\A(?:\s+|--[^\n]*(?:\n|\Z)|/\*.*?\*/)+", "", text, flags=re.DOTALL)


def _step(number: int, line: int, text: str, state: _Session) -> Step:
    import postgast

    try:
        node = parsing.parse(text).stmts[0].stmt
    except (postgast.PgQueryError, IndexError) as exc:
        return Step(number, line, text, "", None, error=clean_line(str(exc), 200) or "nothing to parse")
    kind = node.WhichOneof("node") or ""
    return Step(number, line, text, kind, node, state.open, state.timeout, state.path)


class _Session:
    """What the statements so far have set."""

    def __init__(self) -> None:
        self.open = self.timeout = False
        self.path: tuple[str, ...] | None = None
        self._before: tuple[bool, tuple[str, ...] | None] | None = None  # to go back to after SET LOCAL

    def after(self, step: Step) -> None:
        from postgast import pg_query_pb2 as pb

        if step.kind == "transaction_stmt":
            kind = step.node.transaction_stmt.kind
            if kind in (pb.TRANS_STMT_BEGIN, pb.TRANS_STMT_START):
                self.open = True
            elif kind in (pb.TRANS_STMT_COMMIT, pb.TRANS_STMT_ROLLBACK, pb.TRANS_STMT_PREPARE):
                self.open = False
                if self._before is not None:
                    (self.timeout, self.path), self._before = self._before, None
        elif step.kind == "variable_set_stmt":
            self._set(step.node.variable_set_stmt)

    def _set(self, node: Any) -> None:
        if node.name not in ("lock_timeout", "search_path"):
            return
        if node.is_local:
            if not self.open:
                return  # the server warns, and sets nothing
            self._before = self._before or (self.timeout, self.path)
        values = [_value(a) for a in node.args]
        if node.name == "lock_timeout":
            self.timeout = bool(values) and values[0] not in _NO_TIMEOUT
        else:
            self.path = tuple(values) or None


def _value(node: Any) -> str:
    constant = node.a_const
    which = constant.WhichOneof("val")
    return str(constant.ival.ival) if which == "ival" else str(constant.sval.sval)
