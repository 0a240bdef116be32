"""The shadow planner: one change, forecast against the target's own statistics. Nothing is written to the target."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from indexpilot_tui.engine.model.builds import MeasuredBuild
from indexpilot_tui.engine.postgres.ddl import IndexStatement, parse_index_statement
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean, clean_line
from indexpilot_tui.engine.whatif import drop, hypopg, workload
from indexpilot_tui.engine.whatif.change import Outcome, forecast_create, forecast_drop, forecast_invalid, forecast_reindex
from indexpilot_tui.engine.whatif.confidence import Doubts, of_confinement, of_coverage, of_snapshot
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.drop_model import Rebuild
from indexpilot_tui.engine.whatif.fits import fitting
from indexpilot_tui.engine.whatif.functions import names_of
from indexpilot_tui.engine.whatif.model import Forecast, LeftOut, QueryForecast, Statement, WriteForecast
from indexpilot_tui.engine.whatif.observed import Constants
from indexpilot_tui.engine.whatif.plan import Planned
from indexpilot_tui.engine.whatif.quals import read_constants
from indexpilot_tui.engine.whatif.rates import Rates
from indexpilot_tui.engine.whatif.read import Name, Reader, read_snapshot, resolve, server_traits
from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.engine.whatif.sizing import apply
from indexpilot_tui.engine.whatif.snapshot import Relation, Snapshot
from indexpilot_tui.engine.whatif.statements import Parsed, parse
from indexpilot_tui.errors import LocalServerError, NotInstalledError, PrivilegeError, UsageError


@dataclass(slots=True)
class Question:
    """What is asked: the change, its table (and index) on the target, and the statements to plan."""

    change: IndexStatement
    table: int
    index: int | None
    parsed: list[Parsed]
    touching: set[str]  # keys of the statements that can reach the table
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    workload: list[Parsed] = field(default_factory=list)  # all of it, whether it touches the table or not
    standing: drop.Standing | None = None  # of a drop: what hangs on the index
    back: Rebuild | None = None
    observed: dict[str, list[Constants]] = field(default_factory=dict)  # that run now, by statement
    rates: Rates = field(default_factory=Rates)


class Simulator:
    """Forecasts changes; keeps its shadow cluster warm until `close`. One Simulator serves any number of targets."""

    def __init__(self, *, own_major: bool = True) -> None:
        """`own_major` False: always plan with the embedded server, also where the target's own major is at hand."""
        self._server = ShadowServer(own_major=own_major)

    @property
    def server(self) -> ShadowServer:
        """The shadow, for others that plan on it (the advisor)."""
        return self._server

    async def warm(self, version: int = 0) -> None:
        """Start the shadow for targets of `version` (server_version_num; 0: the embedded one) ahead of the first question.

        Raises LocalServerError.
        """
        await self._server.warm(version)

    async def close(self) -> None:
        await self._server.close()

    async def simulate(
        self, session: Session, ddl: str, statements: Sequence[Statement] | None = None, *, backend: str = "auto",
        cross_check: bool = False, builds: Sequence[MeasuredBuild] = (),
    ) -> Forecast:  # fmt: skip
        """Forecast one CREATE, DROP or REINDEX INDEX.

        `statements`: all of them are in the forecast; of a ServerWorkload, and of pg_stat_statements when None, those
        that touch the table. `backend`: shadow, hypopg (which must be on the target), or auto: the shadow, and where none
        can be had HypoPG if the target has it. `cross_check` asks HypoPG as well and notes how far it is off. `builds`:
        what earlier builds there took, for the time of this one.
        Raises UsageError (the DDL, or an object in it, is wrong), PrivilegeError, ServerError or ConnectError (the
        target), LocalServerError (the shadow).
        """
        with fitting(from_file=session.from_file):
            return await self._simulate(session, ddl, statements, backend, cross_check, builds)

    async def _simulate(
        self, session: Session, ddl: str, statements: Sequence[Statement] | None, backend: str, cross_check: bool,
        builds: Sequence[MeasuredBuild],
    ) -> Forecast:  # fmt: skip
        started = time.perf_counter()
        change = parse_index_statement(ddl)
        # the cluster starts while the target is read; if it cannot, asking it below says so
        warming = asyncio.ensure_future(self._server.warm(session.facts.server_version))
        try:
            reader = Reader(session)
            question, snapshot = await self._read(reader, change, statements)
            question.rates = Rates(builds)
        finally:
            await asyncio.gather(warming, return_exceptions=True)
        if backend == "hypopg":
            return await self._hypopg(reader, snapshot, question, started)
        try:
            shadow, outcome = await self._ask(snapshot, question)
        except LocalServerError as exc:
            if backend != "auto" or change.kind != "create":
                raise
            return await self._instead(reader, snapshot, question, started, exc)
        if cross_check:
            arguments = (snapshot, change, question.table, question.parsed, question.touching)
            try:
                outcome.notes.append(hypopg.difference(outcome, await hypopg.forecast(reader, *arguments)))
            except PrivilegeError as exc:
                outcome.notes.append(f"no cross-check: {exc.message}")
        outcome.doubts += [("high", told) for told in shadow.told()]  # worth knowing, and no doubt
        cluster = shadow.cluster
        return _assemble(question, snapshot, outcome, shadow.issues, cluster.version, reader, started, cluster.confinement)

    async def _hypopg(self, reader: Reader, snapshot: Snapshot, question: Question, started: float) -> Forecast:
        outcome = await hypopg.forecast(
            reader, snapshot, question.change, question.table, question.parsed, question.touching
        )
        found = _assemble(question, snapshot, outcome, [], snapshot.server.version, reader, started)
        return replace(found, backend="hypopg")

    async def _instead(
        self, reader: Reader, snapshot: Snapshot, question: Question, started: float, why: LocalServerError
    ) -> Forecast:
        """HypoPG where no shadow can be had; without HypoPG the shadow's error is the answer."""
        try:
            found = await self._hypopg(reader, snapshot, question, started)
        except (NotInstalledError, PrivilegeError):
            raise why from None
        reason = f"HypoPG on the target was asked, because there is no shadow: {clean_line(why.message, 200)}"
        reasons = (reason, *found.confidence.reasons)
        level = "medium" if found.confidence.level == "high" else found.confidence.level
        return replace(found, confidence=replace(found.confidence, level=level, reasons=reasons))

    async def _read(
        self, reader: Reader, change: IndexStatement, statements: Sequence[Statement] | None
    ) -> tuple[Question, Snapshot]:
        server = await server_traits(reader)
        asked = statements if statements is not None else await workload.read_statements(reader)
        measured = isinstance(asked, workload.ServerWorkload)
        parsed = [parse(s) for s in asked]
        question = await self._question(reader, change, parsed, server.search_path, only_touching=measured)
        if isinstance(asked, workload.ServerWorkload):
            question.notes.extend(asked.notes)
        question.workload = parsed
        names = {n for p in question.parsed for n in p.tables}
        also = (question.table,)
        calls = {f for p in question.parsed for f in p.calls} | names_of(change.tree)
        snapshot = await read_snapshot(reader.session, names, server=server, reader=reader, also=also, calls=calls)
        if change.kind != "reindex":
            touching = [p for p in question.parsed if p.statement.key in question.touching]
            question.observed, said = await read_constants(reader, touching)
            question.notes += said
        if change.kind == "drop" and question.index is not None:
            question.standing = await drop.read_standing(reader, snapshot, question.index, question.table)
        return question, snapshot

    async def _ask(self, snapshot: Snapshot, question: Question) -> tuple[ShadowDatabase, Outcome]:
        while True:
            shadow = await self._server.database(snapshot)
            async with shadow.lock:
                if not shadow.usable:  # made way for another while we waited, or its last forecast was cut short
                    continue
                try:
                    await apply(shadow, snapshot)
                    return shadow, await _forecast(shadow, question)
                except UsageError:
                    raise
                except (psycopg.Error, OSError) as exc:
                    shadow.spoilt = True
                    raise LocalServerError(
                        f"the shadow planner's own server failed: {clean_line(str(exc), 300)}", remedy="try again"
                    ) from exc
                except BaseException:
                    shadow.spoilt = True
                    raise

    async def _question(
        self, reader: Reader, change: IndexStatement, parsed: list[Parsed], path: tuple[str, ...], *, only_touching: bool
    ) -> Question:
        wanted: Name = (change.table_schema or "", change.table or "")
        if change.kind != "create":
            wanted = (change.schema or "", change.index or "")
        resolved = await resolve(reader, {wanted, *(n for p in parsed for n in p.tables)}, path)
        oid = resolved[wanted]
        shown = clean_line(".".join(x for x in wanted if x))
        if oid is None:
            raise UsageError(
                f"no such {'table' if change.kind == 'create' else 'index'}, or several outside the search_path",
                field="DDL", value=shown, remedy="write the name with its schema",
            )  # fmt: skip
        question = Question(change, oid, None, parsed, set())
        if change.kind != "create":
            rows = await reader.ask("index_table", oid=oid)
            if not rows:
                raise UsageError("this is not an index", field="DDL", value=shown, remedy="name an index")
            question.index, question.table, question.facts = oid, rows[0]["table_oid"], rows[0]
            if change.kind == "drop" and not rows[0]["valid"]:
                question.notes.append("the index is INVALID: no plan uses it, so dropping it changes none")
        reach = {r["oid"] for r in await reader.ask("dependents", oid=question.table)}
        question.touching = {p.statement.key for p in parsed if any(resolved.get(n) in reach for n in p.tables)}
        if only_touching:
            # what could not be read may touch it, too
            unread = [p for p in parsed if p.refused and not p.utility]
            question.parsed = [p for p in parsed if p.statement.key in question.touching] + unread
            utility = sum(p.utility for p in parsed)
            question.notes.append(
                f"{len(question.parsed) - len(unread)} of {len(parsed)} statements of pg_stat_statements touch the table"
                + (f"; {len(unread)} could not be read" if unread else "")
                + (f"; {utility} are utility statements" if utility else "")
            )
        return question


async def _forecast(shadow: ShadowDatabase, question: Question) -> Outcome:
    if question.change.kind == "create":
        arguments = (shadow, question.change, question.table, question.parsed, question.touching)
        return await forecast_create(*arguments, question.observed, question.rates)
    if question.change.kind == "drop" and question.index is not None and not question.facts["valid"]:
        return await forecast_invalid(shadow, question.change.index or "", question.parsed)
    if question.index is None or question.index not in shadow.oids:
        raise UsageError(
            "this index is INVALID or could not be taken over into the shadow, so nothing can be forecast about it",
            field="DDL", value=clean_line(question.change.index or ""),
        )  # fmt: skip
    if question.change.kind == "drop":
        question.back = await drop.rebuild(shadow, question.index, question.rates)
        return await forecast_drop(shadow, question.index, question.parsed, question.touching, question.observed)
    return await forecast_reindex(
        shadow, question.index, question.table, question.parsed, question.touching, question.rates
    )  # fmt: skip


def _queries(outcome: Outcome, parsed: Sequence[Parsed]) -> tuple[list[QueryForecast], list[LeftOut]]:
    queries: list[QueryForecast] = []
    left: list[LeftOut] = []
    for p in parsed:
        before = outcome.before.get(p.statement.key, Planned(None, p.refused))
        after = outcome.after.get(p.statement.key, before)
        if before.plan is None or after.plan is None:
            left.append(LeftOut(p.statement.key, p.shown, before.reason or after.reason or "not planned"))
            continue
        queries.append(
            QueryForecast(
                queryid=p.statement.key,
                query=p.shown,
                calls=p.statement.calls,
                cost_before=before.cost,
                cost_after=after.cost,
                uses_index=p.statement.key in outcome.users,
                plan_before=before.plan,
                plan_after=after.plan,
                points=outcome.points.get(p.statement.key, ()),
            )
        )
    return queries, left


def _left_share(parsed: Sequence[Parsed], left: Sequence[LeftOut]) -> float | None:
    keys = {x.key for x in left}
    times = [(p.statement.total_ms, p.statement.key in keys) for p in parsed]
    total = sum(t for t, _ in times if t is not None)
    if total <= 0:
        return None
    return sum(t for t, out in times if out and t is not None) / total


def _assemble(
    question: Question, snapshot: Snapshot, outcome: Outcome, issues: list[str], version: int, reader: Reader,
    started: float, confinement: str = "",
) -> Forecast:  # fmt: skip
    relation: Relation = snapshot.relations[question.table]
    queries, left = _queries(outcome, question.parsed)
    doubts = Doubts()
    of_snapshot(doubts, snapshot, version, [question.table, *snapshot.members(question.table)])
    of_coverage(doubts, _left_share(question.parsed, left), len(left), len(question.parsed))
    doubts.add_all("medium", issues)
    of_confinement(doubts, confinement)
    doubts.add_all("medium", (p.note for p in outcome.before.values() if p.note))
    for level, reason in outcome.doubts:
        doubts.add(level, reason)
    if not queries:
        doubts.add("low", "no statement of the workload touches the table, so only size and write cost are forecast")
    hot, hot_basis = outcome.hot
    blast = None
    if question.standing is not None:
        blast = drop.radius(question.standing, snapshot, question.table, question.workload, queries, question.back)
    return Forecast(
        kind=question.change.kind,
        ddl=clean(question.change.text),
        name=clean_line(outcome.name),
        table=clean_line(relation.qualified),
        backend="shadow",
        server_version=snapshot.server.version,
        planner_version=version,
        queries=tuple(queries),
        left_out=tuple(left),
        cost_before=sum(q.cost_before * q.calls for q in queries),
        cost_after=sum(q.cost_after * q.calls for q in queries),
        index=outcome.index,
        writes=WriteForecast(hot, outcome.wal_per_write),
        redundant=tuple(outcome.redundant),
        confidence=doubts.confidence(),
        read_ms=reader.ms,
        read_statements=reader.statements,
        elapsed_ms=(time.perf_counter() - started) * 1000,
        notes=tuple(dict.fromkeys([*question.notes, *_standing(question), *outcome.notes, f"HOT updates: {hot_basis}"])),
        drop=blast,
        confinement=confinement,
        covered_by=tuple(outcome.covered),
    )


def _standing(question: Question) -> list[str]:
    """What stands on the index of a DROP."""
    if question.change.kind != "drop":
        return []
    facts, notes = question.facts, []
    if facts.get("constraint_name"):
        notes.append(f"constraint {clean_line(facts['constraint_name'])} owns this index: DROP INDEX will be refused")
    elif facts.get("is_unique"):
        notes.append("the index enforces uniqueness: after the drop duplicates are possible")
    if facts.get("foreign_keys"):
        notes.append(f"{facts['foreign_keys']} foreign keys depend on this index")
    if facts.get("replica_identity"):
        notes.append("the index is the table's replica identity: logical replication of updates needs it")
    if facts.get("of_partition"):
        notes.append("the index is part of a partitioned index and cannot be dropped alone")
    return notes
