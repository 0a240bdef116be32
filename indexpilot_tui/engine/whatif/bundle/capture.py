"""Capturing a target: every user relation's definitions and statistics, and the workload. No rows, no lock waited for,
nothing written; read over one monitor session in short statements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from indexpilot_tui import __version__
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.bundle.model import Bundle, Cost, Header, Row
from indexpilot_tui.engine.whatif.bundle.session import Recorder
from indexpilot_tui.engine.whatif.calls import names_in
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.read import Reader, read_snapshot, server_traits
from indexpilot_tui.engine.whatif.workload import read_statements
from indexpilot_tui.errors import IndexPilotError, PrivilegeError, ServerError, UsageError

BUNDLE = "indexpilot_tui.engine.whatif.bundle"
WHATIF = "indexpilot_tui.engine.whatif"
ADVISE = "indexpilot_tui.engine.whatif.advise"
OBSERVE = "indexpilot_tui.engine.observe"
MOST_STATEMENTS = 5_000
HEALTH_WORK_MEM = "32MB"  # 12,000 indexes are some 10 MB of rows
_NOT_OURS = ("pg_catalog", "information_schema", "indexpilot")
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """`schemas`: only these (and what their relations need); empty: all. `statements`: in place of pg_stat_statements."""

    schemas: tuple[str, ...] = ()
    statements: Sequence[Statement] | None = None


async def capture(session: Session, options: CaptureOptions | None = None, say: Progress = lambda _: None) -> Bundle:
    """Read a target into a bundle. `say` is told what is read.

    Raises what Session.rows raises (PrivilegeError, ServerError, ConnectError), and UsageError when no relation is there.
    Statistics that the role may not see are missing in it, and named in the header's notes.
    """
    options = options or CaptureOptions()
    recorder = Recorder.of(session)
    notes: list[str] = []
    names = await _ask(recorder, BUNDLE, "names")
    await _ask(recorder, BUNDLE, "edges")
    wanted = [
        r for r in names
        if r["kind"] in "rpvmf" and r["schema"] not in _NOT_OURS and (not options.schemas or r["schema"] in options.schemas)
    ]  # fmt: skip
    if not wanted:
        where = f"in {', '.join(options.schemas)}" if options.schemas else "in this database"
        raise UsageError(
            f"there is no table {where}",
            field="schema" if options.schemas else "target",
            value=clean_line(", ".join(options.schemas)) or None,
            remedy="check the name of the database",
        )
    say(f"{len(wanted)} relations")
    reader = Reader(recorder)
    server = await server_traits(reader)
    workload, said = await _workload(recorder, options)
    calls = {name for row in workload or () for name in names_in(row["query"] or "")}
    also = [r["oid"] for r in wanted]
    snapshot = await read_snapshot(recorder, (), server=server, reader=reader, also=also, calls=calls)
    notes += [clean_line(n) for n in snapshot.notes]
    covered = {(s.schema, s.relation) for s in snapshot.stats}
    hidden = [
        r.qualified
        for r in snapshot.relations.values()
        if r.kind in "rm" and not snapshot.activity[r.oid].readable and (r.schema, r.name) not in covered
    ]
    if hidden:
        notes.append(
            f"statistics of {len(hidden)} relations are hidden from this role (grant pg_read_all_data): "
            + clean_line(", ".join(sorted(hidden)[:5]))
        )
    await _ask(recorder, BUNDLE, "foreign_keys")
    types = sorted(t.oid for t in snapshot.types)
    await _ask(recorder, BUNDLE, "type_edges", types=types)
    tables = sorted(snapshot.relations)
    schemas = {r["schema"] for r in wanted}
    indexes = [r["oid"] for r in names if r["kind"] in "iI" and r["schema"] in schemas]
    await _ask(recorder, WHATIF, "index_facts", oids=indexes)
    await _ask(recorder, WHATIF, "key_tables", oids=tables)
    await _ask(recorder, ADVISE, "references", oids=tables)
    await _ask(recorder, WHATIF, "usage_window")
    notes += await _health(recorder)
    if recorder.locked:
        shown = sorted(f"{r['schema']}.{r['name']}" for r in names if r["oid"] in recorder.locked)
        notes.append(
            f"{len(shown)} relations are locked exclusively now, and something of them is missing here: "
            + clean_line(", ".join(shown[:5]))
        )
    notes += said
    answers = recorder.answers()
    if workload is not None:
        answers["whatif/statements"] = workload
    at = answers["whatif/usage_window"][0]["at"]
    header = Header(
        captured_at=at.isoformat() if isinstance(at, datetime) else datetime.now(UTC).isoformat(),
        made_by=f"indexpilot-tui {__version__}",
        database=session.facts.database,
        session_user=session.facts.session_user,
        server_version=session.facts.server_version,
        in_recovery=session.facts.in_recovery,
        redacted=False,
        relations=len(snapshot.relations),
        statements=None if workload is None else len(workload),
        cost=Cost(recorder.statements, round(recorder.ms, 1), recorder.bytes),
        notes=tuple(dict.fromkeys(notes)),
    )
    return Bundle(header, answers)


async def _health(recorder: Recorder) -> list[str]:
    """Index health: three wide answers, sorted in memory instead of in temporary files of the target."""
    notes: list[str] = []
    before = await recorder.value("select pg_catalog.current_setting('work_mem')")
    set_to = "select pg_catalog.set_config('work_mem', %s, false)"
    if recorder.facts.direct:  # behind a pooler it would stay with a stranger
        await recorder.execute(set_to, (HEALTH_WORK_MEM,))
    try:
        every: dict[str, object] = {"first": 0, "last": 2**32 - 1, "definitions": True}
        for name, params in (("health_facts", {}), ("indexes", every), ("foreign_keys", {"oids": None})):
            try:
                await _ask(recorder, OBSERVE, name, **params)
            except (PrivilegeError, ServerError) as exc:
                notes.append(f"index health has no {name}: {clean_line(exc.message, 200)}")
    finally:
        if recorder.facts.direct and not recorder.closed:
            await recorder.execute(set_to, (before,))
    return notes


async def _ask(recorder: Recorder, package: str, name: str, **params: object) -> list[Row]:
    return await recorder.rows(load(package, name, recorder.facts.server_version), params or None)


async def _workload(recorder: Recorder, options: CaptureOptions) -> tuple[list[Row] | None, list[str]]:
    """The rows for `whatif/statements`; None where there is no workload, with the reason."""
    if options.statements is not None:
        found = options.statements
        return [{"key": s.key, "query": s.sql, "calls": s.calls, "total_ms": s.total_ms} for s in found], []
    try:
        read = await read_statements(Reader(recorder), MOST_STATEMENTS)
    except IndexPilotError as exc:
        if recorder.closed:
            raise
        return None, [f"no workload: {clean_line(exc.message, 200)}; give one with --workload"]
    recorder.kept.pop("whatif/extension_schema", None)
    return [{"key": s.key, "query": s.sql, "calls": s.calls, "total_ms": s.total_ms} for s in read], list(read.notes)


def renamed(bundle: Bundle, **fields: object) -> Bundle:
    """The bundle with other fields in its header."""
    return replace(bundle, header=replace(bundle.header, **fields), _groups={})  # type: ignore[arg-type]
