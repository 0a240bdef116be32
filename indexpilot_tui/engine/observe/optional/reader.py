"""Reads the optional extensions, only while somebody looks: where they are once a minute, and what they tell in one round
trip. Deltas are between two of its own readings of the same thing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.observe.ask import Asker, Question, Refusal, Rows
from indexpilot_tui.engine.observe.optional.model import Extras, Kernel, Waits
from indexpilot_tui.engine.postgres.extensions import KCACHE, QUALSTATS, WAIT_SAMPLING, Home, extensions_text, homes_of
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line

PACKAGE = "indexpilot_tui.engine.observe.optional"
LOOK_AGAIN_S = 60.0
APART_S = 4.0  # what was read less long ago is shown again: all entries of an extension are read for one statement
KEPT = 16  # statements of which the last reading is kept to compare with
NAMES = (KCACHE, WAIT_SAMPLING, QUALSTATS)  # the last is read by forecasts; here it is said whether it is there
_OFF = ("off", "none")


@dataclass(frozen=True, slots=True)
class _Held:
    at: datetime
    mono: float
    kernel: Kernel | None
    waits: Waits | None
    shown: Extras


@dataclass(slots=True)
class OptionalReader:
    """Of one server and database; another one begins anew."""

    asker: Asker = field(default_factory=Asker)
    _server: tuple[str, str] = ("", "")
    _homes: dict[str, Home] = field(default_factory=dict)
    _looked: float = -LOOK_AGAIN_S
    _held: dict[int | None, _Held] = field(default_factory=dict)

    async def read(self, session: Session, queryid: int | None) -> Extras:
        """What is told of one statement; None: of the waits of the server. What is missing or refused is named. Raises
        ConnectError when the session is lost."""
        held = self._adopt(session).get(queryid)
        if held is not None and time.monotonic() - held.mono < APART_S:
            return held.shown
        absent = await self._find(session)
        wanted = [] if queryid is None else self._question(KCACHE, "kcache", queryid)
        wanted += self._question(WAIT_SAMPLING, "server_waits" if queryid is None else "statement_waits", queryid)
        answers = await self.asker.ask(session, wanted) if wanted else {}
        relevant = NAMES if queryid is not None else (WAIT_SAMPLING,)
        missing = [text for name, text in absent.items() if name in relevant]
        return self._take(queryid, answers, missing, held)

    def _adopt(self, session: Session) -> dict[int | None, _Held]:
        server = session.facts.system_identifier, session.facts.database
        if server != self._server:
            self._server, self._looked = server, -LOOK_AGAIN_S
            self._held.clear()
            self.asker.forget()
        return self._held

    async def _find(self, session: Session) -> dict[str, str]:
        """Look for the extensions where that was long ago; why one cannot be used, by its name."""
        if time.monotonic() - self._looked >= LOOK_AGAIN_S:
            self._looked = time.monotonic()
            self.asker.forget()  # a GRANT may have come, or the library
            text = extensions_text(session.facts.server_version)
            found = (await self.asker.ask(session, [Question("extensions", text, {"names": list(NAMES)})]))["extensions"]
            if isinstance(found, Refusal):
                self._homes = {name: Home(name, why=f"{name}: {found}") for name in NAMES}
            else:
                self._homes = homes_of(found, NAMES)
        return {name: home.why for name, home in self._homes.items() if home.why}

    def _question(self, extension: str, name: str, queryid: int | None) -> list[Question]:
        home = self._homes[extension]
        if home.why:
            return []
        text = sql.SQL(load(PACKAGE, name, home.variant)).format(schema=sql.Identifier(home.schema))  # our own .sql file
        params = {} if queryid is None else {"queryid": queryid}
        return [Question(name, text, params or None)]

    def _take(
        self, queryid: int | None, answers: Mapping[str, Rows | Refusal], missing: list[str], held: _Held | None
    ) -> Extras:
        kernel = waits = at = None
        for name, answer in answers.items():
            extension = KCACHE if name == "kcache" else WAIT_SAMPLING
            if isinstance(answer, Refusal):
                # each library has its own words for not having been loaded
                loaded = "" if "preload" in answer.reason else " (is it in shared_preload_libraries?)"
                missing.append(f"{extension}: {answer.reason}{loaded}")
                continue
            row = answer[0]
            at = row["at"]
            if name == "kcache":
                kernel = _kernel(row)
                if kernel is None:
                    missing.append(f"{KCACHE}: it has counted nothing of this statement")
            elif queryid is not None and row["profiled"] in _OFF:
                missing.append(f"{extension}: pg_wait_sampling.profile_queries is off, so waits have no statement")
            else:
                waits = _waits(row)
        if at is None:
            return Extras(missing=tuple(missing))
        seconds = (at - held.at).total_seconds() if held is not None else 0.0
        grown = held is not None and seconds > 0
        shown = Extras(
            at=at,
            seconds=seconds if grown else 0.0,
            kernel=kernel.minus(held.kernel) if grown and held and kernel and held.kernel else None,
            kernel_since=kernel,
            waits=waits.minus(held.waits) if grown and held and waits and held.waits else None,
            waits_since=waits,
            missing=tuple(missing),
        )
        self._held.pop(queryid, None)
        self._held[queryid] = _Held(at, time.monotonic(), kernel, waits, shown)
        for old in list(self._held)[:-KEPT]:
            del self._held[old]
        return shown


def _kernel(row: Mapping[str, Any]) -> Kernel | None:
    """None without an entry: what was not counted is no nought."""
    if row["user_s"] is None:
        return None
    return Kernel(*(float(row[name] or 0.0) for name in ("user_s", "system_s", "read_bytes", "written_bytes")))


def _waits(row: Mapping[str, Any]) -> Waits:
    samples = [(clean_line(name, 100), int(number)) for name, number in row["waits"] or ()]
    period = str(row["period_ms"] or "")
    most = sorted(samples, key=lambda pair: -pair[1])
    return Waits(tuple(most), float(period.removesuffix("ms")) if period.removesuffix("ms").isdigit() else None)
