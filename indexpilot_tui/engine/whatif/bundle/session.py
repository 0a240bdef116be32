"""A session that answers from a bundle, and one that remembers what a server answered. Both ask and give the rooms' own
questions, so everything that reads a target reads a bundle in the same way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.engine.postgres.session import Facts, Params, Purpose, Query, Session
from indexpilot_tui.engine.postgres.tls import TlsFacts
from indexpilot_tui.engine.whatif.bundle.answers import answer, not_there
from indexpilot_tui.engine.whatif.bundle.model import Bundle, Row
from indexpilot_tui.engine.whatif.bundle.questions import identify
from indexpilot_tui.errors import ServerError

SLICE = 200  # objects a statement, so that none of them runs for long
WALK_SLICE = 2_000  # of relations.sql, most of whose time goes into starting (measured: 0.5 s for 200 as for 1,000)
STATS_SLICE = 80  # statistics are wide: so many tables' are sorted within the default work_mem, without temporary files

_SLICED = {
    "whatif/stats": ("names", STATS_SLICE),
    "whatif/stats_reader": ("names", STATS_SLICE),
    "whatif/relations": ("oids", WALK_SLICE),
}


class BundleSession(Session):
    """A Session without a server. It answers what the capture asked, and nothing can be changed through it."""

    def __init__(self, bundle: Bundle) -> None:
        header = bundle.header
        nowhere = TlsFacts(in_use=False, unix_socket=False, sslmode="")
        facts = Facts(
            server_version=header.server_version, database=header.database, database_oid=0,
            session_user=header.session_user, system_identifier="", timeline=0, in_recovery=header.in_recovery,
            server_pid=0, client_pid=0, tls=nowhere, host="", port=0, clock_skew_s=0.0,
        )  # fmt: skip
        super().__init__(conn=_NoConnection(), facts=facts, purpose=Purpose.MONITOR)  # type: ignore[arg-type]
        self.bundle, self.from_file = bundle, True

    async def rows(self, query: Query, params: Params = None) -> list[dict[str, Any]]:
        """The captured rows. Raises UsageError for a question that the capture did not ask."""
        known = identify(query, self.facts.server_version)
        given = params if isinstance(params, Mapping) else {}
        if known is None:
            raise not_there(self.bundle, "this question")
        start = time.perf_counter()
        # copies: whoever asked may change its rows
        found = [dict(row) for row in answer(self.bundle, known[0], given, known[1])]
        self.record(f"(bundle) {known[0]}", (time.perf_counter() - start) * 1000)
        return found

    @property
    def closed(self) -> bool:
        return False

    async def close(self) -> None:
        """Nothing to close."""


class _NoConnection:
    """Stands where a connection would be. Whoever goes past `rows` learns that there is none."""

    def __getattr__(self, name: str) -> Any:
        raise not_there_at_all(name)


def not_there_at_all(name: str) -> Exception:
    from indexpilot_tui.errors import UsageError

    return UsageError(
        f"a bundle is not a server: this needs a connection ({name})", field="bundle",
        remedy="give a TARGET in place of --bundle",
    )  # fmt: skip


@dataclass(slots=True)
class Recorder(Session):
    """A live session whose answers are kept. A question on many objects goes out in slices, so that each statement stays
    short on the target. `kept` has the rows by question, each once."""

    kept: dict[str, dict[str, Row]] = field(default_factory=dict)
    statements: int = 0
    ms: float = 0.0
    bytes: int = 0
    locked: set[int] = field(
        default_factory=set
    )  # objects that were locked exclusively, so that something of them is missing

    @classmethod
    def of(cls, session: Session) -> Recorder:
        """On the connection of `session`, which stays the caller's to close."""
        return cls(
            conn=session.conn, facts=session.facts, purpose=session.purpose, readback=session.readback, sink=session.sink
        )

    async def rows(self, query: Query, params: Params = None) -> list[dict[str, Any]]:
        """As Session.rows; remembers the answer to a known question."""
        known = identify(query, self.facts.server_version)
        found: list[dict[str, Any]] = []
        for part in _slices(known[0] if known else "", params):
            found += await self._part(query, part)
        if known is None:
            return found
        fresh: dict[str, Row] = {}
        kept = self.kept.setdefault(known[0], {})
        for row in found:
            text = json.dumps(row, default=repr, ensure_ascii=False)
            self.bytes += len(text)
            fresh.setdefault(text, row)  # a walk that starts in two slices may meet the same relation twice
            kept.setdefault(text, row)
        return list(fresh.values())

    async def _part(self, query: Query, params: Params) -> list[dict[str, Any]]:
        """One statement. Where an object is locked exclusively it is asked for the others, and that one is in `locked`."""
        start = time.perf_counter()
        try:
            # named, not super(): a dataclass with slots is another class than the one that super() was compiled for
            return await Session.rows(self, query, params)
        except ServerError as exc:
            oids = params.get("oids") if isinstance(params, Mapping) else None
            if "lock timeout" not in exc.message or not isinstance(oids, list) or not oids:
                raise
        finally:
            self.statements += 1
            self.ms += (time.perf_counter() - start) * 1000
        if len(oids) == 1:
            self.locked.update(oids)
            return []
        half = len(oids) // 2
        first = await self._part(query, {**dict(params or {}), "oids": oids[:half]})
        return first + await self._part(query, {**dict(params or {}), "oids": oids[half:]})

    def answers(self) -> dict[str, list[Row]]:
        """The rows by question, in the order in which the server gave them."""
        return {name: list(rows.values()) for name, rows in self.kept.items()}


def _slices(question: str, params: Params) -> Iterator[Params]:
    key, size = _SLICED.get(question, ("oids", SLICE))
    if not isinstance(params, Mapping) or not isinstance(params.get(key), list):
        yield params
        return
    values = params[key]
    for start in range(0, max(1, len(values)), size):
        yield {**params, key: values[start : start + size]}
