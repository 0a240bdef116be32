"""The advice: read a target once, put its candidates on the shadow, choose a set, and say what each member is worth."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import effects, index, workload
from indexpilot_tui.engine.whatif.advise import drops
from indexpilot_tui.engine.whatif.advise.generate import Generator
from indexpilot_tui.engine.whatif.advise.model import Advice, AdvisedDrop
from indexpilot_tui.engine.whatif.advise.planners import Planners
from indexpilot_tui.engine.whatif.advise.pool import Pool, SizeOf
from indexpilot_tui.engine.whatif.advise.pricing import Memory, Prices, Unit
from indexpilot_tui.engine.whatif.advise.report import Findings, report
from indexpilot_tui.engine.whatif.advise.search import Problem
from indexpilot_tui.engine.whatif.advise.seen import read_seen
from indexpilot_tui.engine.whatif.advise.solve import Solver
from indexpilot_tui.engine.whatif.advise.units import Reference, units_of
from indexpilot_tui.engine.whatif.advise.writes import Writer, upkeep, writers
from indexpilot_tui.engine.whatif.confidence import unconfined
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.fits import fitting
from indexpilot_tui.engine.whatif.model import LeftOut, Statement
from indexpilot_tui.engine.whatif.plan import Planned, plans_before
from indexpilot_tui.engine.whatif.read import Reader, read_snapshot, resolve, server_traits
from indexpilot_tui.engine.whatif.shadow import ShadowServer
from indexpilot_tui.engine.whatif.sizing import apply
from indexpilot_tui.engine.whatif.snapshot import Snapshot
from indexpilot_tui.engine.whatif.statements import Parsed, parse
from indexpilot_tui.errors import LocalServerError

PACKAGE = "indexpilot_tui.engine.whatif.advise"
MAX_CANDIDATES = 1200
MEMORY = "advice"  # among the shadow's plans, which are kept by their SQL; this is none


@dataclass(frozen=True, slots=True)
class Options:
    """`budget_bytes`: of all new indexes together (drops do not count: an index is dropped after its successor has proved
    itself, so both exist for a while). `write_budget_pct`: how much dearer the workload's writes may get, per cent of what
    they cost now. `size_of` replaces the size model. `partial` False: whole-table indexes only."""

    budget_bytes: int | None = None
    write_budget_pct: float | None = None
    size_of: SizeOf | None = None
    partial: bool = True


@dataclass(slots=True)
class Case:
    """All that an advice is made from; a bundle has the same. `facts` are of existing indexes, by OID."""

    snapshot: Snapshot
    parsed: list[Parsed]
    references: list[Reference] = field(default_factory=list)
    facts: dict[int, drops.IndexFacts] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    read_ms: float = 0.0
    read_statements: int = 0
    from_file: bool = False


async def read_case(session: Session, statements: Sequence[Statement] | None) -> Case:
    """Everything about the tables of a workload (pg_stat_statements when None). Raises what reading the target raises."""
    with fitting(from_file=session.from_file):
        return await _read_case(session, statements)


async def _read_case(session: Session, statements: Sequence[Statement] | None) -> Case:
    reader = Reader(session)
    server = await server_traits(reader)
    asked = statements if statements is not None else await workload.read_statements(reader)
    seen, said = await read_seen(reader, asked) if statements is None else ([], [])
    parsed = [parse(s) for s in (*asked, *seen)]
    names = {n for p in parsed for n in p.tables}
    resolved = await resolve(reader, {p.target for p in parsed if p.target is not None}, server.search_path)
    written = sorted({o for o in resolved.values() if o is not None})
    version = session.facts.server_version
    rows = await reader.send(load(PACKAGE, "references", version), {"oids": written}) if written else []
    references = [
        Reference(
            r["parent"], r["child"], r["schema"], r["name"], r["constraint_name"], tuple(r["columns"]),
            tuple(r["parent_columns"]),
        )
        for r in rows
    ]  # fmt: skip
    snapshot = await read_snapshot(session, names, server=server, reader=reader, also=[r.child for r in references])
    facts: dict[int, drops.IndexFacts] = {}
    if snapshot.indexes:
        found = await reader.send(load(PACKAGE, "index_facts", version), {"oids": sorted(snapshot.indexes)})
        facts = {r["oid"]: drops.facts_of(r) for r in found}
    notes = [*said, *(asked.notes if isinstance(asked, workload.ServerWorkload) else ())]
    notes += snapshot.notes
    return Case(snapshot, parsed, references, facts, notes, reader.ms, reader.statements, session.from_file)


async def advise(server: ShadowServer, case: Case, options: Options) -> Advice:
    """Choose a set for a case on a shadow of it. Raises LocalServerError when the shadow fails."""
    with fitting(from_file=case.from_file):
        return await _on_shadow(server, case, options)


async def _on_shadow(server: ShadowServer, case: Case, options: Options) -> Advice:
    started = time.perf_counter()
    while True:
        shadow = await server.database(case.snapshot)
        async with shadow.lock:
            if not shadow.usable:
                continue
            try:
                await apply(shadow, case.snapshot)
                return await _advise(shadow, case, options, started)
            except (psycopg.Error, OSError) as exc:
                shadow.spoilt = True
                raise LocalServerError(
                    f"the shadow planner's own server failed: {clean_line(str(exc), 300)}", remedy="try again"
                ) from exc
            except BaseException:
                shadow.spoilt = True
                raise


async def _advise(shadow: ShadowDatabase, case: Case, options: Options, started: float) -> Advice:
    snapshot = case.snapshot
    planned = await plans_before(shadow, case.parsed)
    units = await units_of(shadow, case.parsed, planned, case.references)
    plans = {k: p.plan for k, p in planned.items() if p.plan is not None}
    pool, planners = Pool(shadow, options.size_of), Planners(shadow)
    try:
        await planners.open()
        prices = Prices(pool, units, snapshot.server.version, planners, _memory(shadow, options))
        solver = Solver(pool, prices)
        skipped = await _candidates(solver, units, snapshot, options)
        all_writers = writers(case.parsed, plans, snapshot)
        problem = await _problem(shadow, solver, all_writers, options)
        chosen = await solver.solve(problem)
        replaced = await _replaced(shadow, pool, chosen)
        findings = await report(solver, problem, chosen, replaced[0])
        advised, asked = await _drops(shadow, pool, case, units, chosen, await prices.exact(chosen), replaced[1])
        notes = [*case.notes, *(clean_line(i) for i in shadow.issues)]
        notes += [text for text in (unconfined(shadow.cluster.confinement),) if text]
        if skipped:
            notes.append(f"{skipped} candidates of the least costly statements were not tried")
        left = [
            LeftOut(p.statement.key, p.shown, planned[p.statement.key].reason or "not planned")
            for p in case.parsed
            if planned[p.statement.key].plan is None
        ]
        return _assemble(case, options, findings, advised, left, pool, prices.explains + asked, notes, planned, started)
    finally:
        await planners.close()
        await pool.show(())
        await pool.close()


def _memory(shadow: ShadowDatabase, options: Options) -> Memory:
    """What the planner said to earlier advices; it goes when statistics, sizes or settings change (as all plans do)."""
    memory = shadow.plans.get(MEMORY)
    if not isinstance(memory, Memory) or memory.size_of is not options.size_of:
        memory = shadow.plans[MEMORY] = Memory(options.size_of)
    return memory


async def _candidates(solver: Solver, units: Sequence[Unit], snapshot: Snapshot, options: Options) -> int:
    """Make and price the candidates, those of the dearest statements first; returns how many were one too many."""
    generator = Generator(snapshot, partial=options.partial)
    ranked = sorted(range(len(units)), key=lambda p: (-units[p].weight * units[p].base, p))
    found = list(dict.fromkeys(c for p in ranked for use in units[p].uses for c in generator.of(use)))
    usable = [c for c in found if c.table in solver.pool.shadow.oids]
    numbers = await solver.pool.add(usable[:MAX_CANDIDATES])
    solver.prices.relate(numbers)
    await solver.survey(numbers)
    await solver.survey(await solver.merge(), combine=False)
    return max(0, len(usable) - MAX_CANDIDATES)


async def _problem(shadow: ShadowDatabase, solver: Solver, all_writers: Sequence[Writer], options: Options) -> Problem:
    snapshot = shadow.snapshot
    blocked: dict[int, frozenset[str]] = {}
    for table in sorted({e.candidate.table for e in solver.pool.entries}):
        columns = await effects.blocking_columns(shadow, shadow.oids[table], snapshot.server.version)
        existing = {shadow.oids[o] for o in snapshot.indexes if o in shadow.oids}
        blocked[table] = frozenset(f'"{c}"' for oid, names in columns.items() if oid in existing for c in names)
    costs = [upkeep(e, all_writers, blocked[e.candidate.table], snapshot) for e in solver.pool.entries]
    limit = None
    if options.write_budget_pct is not None:
        limit = options.write_budget_pct / 100 * sum(w.calls * w.cost for w in all_writers)
    return Problem(
        [u.weight for u in solver.prices.units], [u.base for u in solver.prices.units],
        [e.size for e in solver.pool.entries], costs, options.budget_bytes, limit,
    )  # fmt: skip


async def _replaced(
    shadow: ShadowDatabase, pool: Pool, chosen: Sequence[int]
) -> tuple[dict[int, list[str]], dict[int, str]]:
    """Existing indexes that each chosen candidate makes redundant (number -> names), and every redundant existing index
    (target OID) with what does its work."""
    await pool.show(())
    snapshot = shadow.snapshot
    by_name = {clean_line(f"{i.schema}.{i.name}"): oid for oid, i in snapshot.indexes.items()}
    by_shadow = {s: t for t, s in shadow.oids.items()}
    tables = [shadow.oids[o] for o in snapshot.relations if o in shadow.oids]
    made = {m.oid: m for m in await index.describe(shadow, tables)}
    news: dict[int, list[str]] = {}
    found: dict[int, str] = {}
    for number in chosen:
        names, _ = await effects.redundant(shadow, made[pool.entries[number].oids[0]])
        news[number] = names
        for name in names:
            found.setdefault(by_name[name], f"the advised {pool.entries[number].candidate.key_text}")
    for oid in sorted(made):
        target = by_shadow.get(oid)
        if target is None or target in found:
            continue
        names, _ = await effects.redundant(shadow, made[oid])
        for name in names:
            if name in by_name:
                found.setdefault(by_name[name], clean_line(f"{made[oid].schema}.{made[oid].name}"))
    return news, found


async def _drops(
    shadow: ShadowDatabase, pool: Pool, case: Case, units: Sequence[Unit], chosen: Sequence[int], costs: Sequence[float],
    redundant: Mapping[int, str],
) -> tuple[list[AdvisedDrop], int]:  # fmt: skip
    await pool.show(chosen)
    return await drops.find(shadow, units, costs, case.facts, redundant)


def _time_share(case: Case, planned: Mapping[str, Planned]) -> float | None:
    times = [(p.statement.total_ms, planned[p.statement.key].plan is not None) for p in case.parsed]
    total = sum(t for t, _ in times if t is not None)
    return 100 * sum(t for t, ok in times if ok and t is not None) / total if total > 0 else None


def _assemble(
    case: Case, options: Options, findings: Findings, advised: Sequence[AdvisedDrop], left: Sequence[LeftOut], pool: Pool,
    explains: int, notes: Sequence[str], planned: Mapping[str, Planned], started: float,
) -> Advice:  # fmt: skip
    tight = options.budget_bytes is not None or options.write_budget_pct is not None
    by_key = {p.statement.key: p for p in case.parsed}
    return Advice(
        indexes=tuple(findings.indexes),
        drops=tuple(advised),
        queries=tuple(findings.effects(by_key)),
        no_advice=tuple(findings.no_advice(by_key, case.snapshot, pool, tight=tight)),
        unexplained=tuple(left),
        cost_before=findings.before,
        cost_after=findings.after,
        upkeep=sum(i.upkeep for i in findings.indexes),
        stop_after=findings.stop_after,
        explained_time_pct=_time_share(case, planned),
        budget_bytes=options.budget_bytes,
        write_budget_pct=options.write_budget_pct,
        candidates=len(pool.entries),
        explains=explains,
        server_version=case.snapshot.server.version,
        elapsed_ms=(time.perf_counter() - started) * 1000,
        read_ms=case.read_ms,
        read_statements=case.read_statements,
        notes=tuple(dict.fromkeys(notes)),
    )
