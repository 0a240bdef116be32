"""CREATE, DROP and REINDEX INDEX in a migration: their locks and names, and what a forecast says of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.check.context import Forecaster
from indexpilot_tui.check.migration.alter import SMALL_PAGES, size_words
from indexpilot_tui.check.migration.findings import Finding
from indexpilot_tui.check.migration.rewrite import concurrently, counted, drop_evidence, plain, quoted
from indexpilot_tui.check.migration.script import Step
from indexpilot_tui.check.migration.target import Created, Migrated, Name, Row
from indexpilot_tui.check.model import RuleStatus
from indexpilot_tui.engine.postgres.ddl import NAME_BYTES, parse_index_statement, render
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.drop_model import DropForecast
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.engine.whatif.snapshot import Relation
from indexpilot_tui.errors import IndexPilotError

OK, WARNING, CRITICAL, UNKNOWN = RuleStatus.OK, RuleStatus.WARNING, RuleStatus.CRITICAL, RuleStatus.UNKNOWN
PARTS = "CREATE INDEX ON ONLY the table, CONCURRENTLY on each partition, then ALTER INDEX ... ATTACH PARTITION"
GAIN = 0.99  # cost after by cost before of a statement that got cheaper
WORSE = 1.01
DISTINCT = 0.98  # ANALYZE's estimate of distinct values is a sample's: below this share of the rows it is no accident


@dataclass(slots=True)
class IndexJudge:
    """Judges the index statements of a file in order. `workload` None: it is not known, with the reason in `no_workload`.
    `good` are the findings in favour: (rule, step, text, evidence)."""

    target: Migrated
    forecaster: Forecaster
    workload: Sequence[Statement] | None
    no_workload: str = ""
    findings: list[Finding] = field(default_factory=list)
    good: list[tuple[str, Step, str, dict[str, Any]]] = field(default_factory=list)

    def _add(self, rule: str, status: RuleStatus, step: Step, summary: str, fix: str = "", **evidence: Any) -> None:
        self.findings.append(Finding(rule, status, step, summary, fix, evidence))

    # --- CREATE INDEX ----------------------------------------------------------------------------------------------

    async def create(self, step: Step) -> None:
        node = step.node.index_stmt
        name = (node.relation.schemaname, node.relation.relname)
        if self.target.made(name):
            return  # on a table that the file itself makes: empty, and nobody uses it
        relation = self.target.table(step, name)
        shown = clean_line(".".join(x for x in name if x))
        if relation is None:
            self._add("migration_names", CRITICAL, step, f"there is no table {shown}")
            self._add("migration_gain", UNKNOWN, step, f"whether an index on {shown} helps: there is no such table")
            return
        fixed = PARTS if relation.kind == "p" else concurrently(step.node)
        if node.if_not_exists:
            self._add(
                "migration_names", WARNING, step,
                "IF NOT EXISTS reports success over an INVALID or a different index of that name", fixed,
            )  # fmt: skip
        taken = self._index_name(step, relation)
        if taken:
            return
        forecast = await self._forecast(step, relation)
        self._create_locks(step, relation, forecast, fixed)
        if forecast is None:
            return
        self._redundant(step, relation, forecast)
        self._gain(step, forecast)
        if node.unique:
            self._unique(step, relation, forecast)
        elements = tuple(e.index_elem.name or "()" for e in node.index_params)
        where = parse_index_statement(plain(step.node)).where
        self.target.indexes.append(
            Created(relation.oid, clean_line(node.idxname), node.access_method, elements, where, forecast.redundant)
        )

    def _create_locks(self, step: Step, relation: Relation, forecast: Forecast | None, fixed: str) -> None:
        node = step.node.index_stmt
        table, pages = clean_line(relation.qualified), self.target.pages(relation)
        if node.concurrent:
            self._concurrent(step)
            if relation.kind == "p":
                self._add(
                    "migration_locks", CRITICAL, step,
                    f"{table} is partitioned: CREATE INDEX CONCURRENTLY is refused there (0A000)", PARTS,
                )  # fmt: skip
            return
        seconds = f", for {forecast.index.build_seconds[0]:g} to {forecast.index.build_seconds[1]:g} s" if forecast else ""
        self._add(
            "migration_locks", CRITICAL if pages > SMALL_PAGES else WARNING, step,
            f"CREATE INDEX without CONCURRENTLY holds a SHARE lock on {table} ({size_words(pages)}): writes wait{seconds}",
            fixed, table=table, build_seconds=list(forecast.index.build_seconds) if forecast else None,
        )  # fmt: skip

    def _concurrent(self, step: Step) -> None:
        if step.in_transaction:
            self._add(
                "migration_session", CRITICAL, step,
                "CONCURRENTLY in a transaction block is refused (25001)", "put it outside of BEGIN ... COMMIT",
            )  # fmt: skip
        if step.lock_timeout:
            self._add(
                "migration_session", WARNING, step,
                "lock_timeout is set: it fires in the waits of CONCURRENTLY as well, and leaves an INVALID index behind",
                "SET lock_timeout = 0;  -- before it",
            )  # fmt: skip

    def _index_name(self, step: Step, relation: Relation) -> bool:
        """Whether the name is taken, so that there is no index to judge."""
        node = step.node.index_stmt
        if not node.idxname:
            return False
        shown = clean_line(node.idxname)
        if len(node.idxname.encode()) >= NAME_BYTES and node.idxname not in step.text:
            self._add("migration_names", WARNING, step, f"the name is cut to {NAME_BYTES} bytes: {shown}")
        there = self._same_schema(step, node.idxname, relation)
        if there is None:
            return False
        if not node.if_not_exists:
            self._add("migration_names", CRITICAL, step, f"a relation named {shown} is there already (42P07)")
            return True
        facts = self.target.facts.get(there)
        if facts is None or not facts["valid"]:
            what = "no index" if facts is None else "INVALID"
            self._add("migration_names", CRITICAL, step, f"{shown} is there already and is {what}: nothing would be made")
        return True

    def _same_schema(self, step: Step, name: str, relation: Relation) -> int | None:
        """The relation of a new index's name in the table's schema, unless an earlier statement dropped it."""
        for schema in (relation.schema, step.node.index_stmt.relation.schemaname):
            oid = self.target.oid(step, (schema, name))
            if oid is None or oid in self.target.gone:
                continue
            facts, table = self.target.facts.get(oid), self.target.snapshot.relations.get(oid)
            if (facts["schema"] if facts else table.schema if table else None) == relation.schema:
                return oid
        return None

    async def _forecast(self, step: Step, relation: Relation) -> Forecast | None:
        parsed = parse_index_statement(plain(step.node))
        name = parsed.index or ""
        ddl = parsed.text if not name else render(
            parsed, schema=relation.schema, table=relation.name, index=name, concurrently=False
        )  # fmt: skip
        if not name:
            node = copy.deepcopy(step.node)
            node.index_stmt.relation.schemaname, node.index_stmt.relation.relname = relation.schema, relation.name
            ddl = plain(node)
        return await self._simulate(step, ddl, "migration_gain")

    async def _simulate(self, step: Step, ddl: str, rule: str) -> Forecast | None:
        try:
            return await self.forecaster.simulate(
                self.target.session, ddl, self.workload if self.workload is not None else []
            )
        except IndexPilotError as exc:
            self._add(rule, UNKNOWN, step, f"no forecast: {clean_line(exc.message, 300)}", exc.remedy or "")
            return None

    def _redundant(self, step: Step, relation: Relation, forecast: Forecast) -> None:
        covering = [n for n in forecast.covered_by if n not in self._gone_names()]
        if covering:
            self._add(
                "migration_redundant", WARNING, step, f"{covering[0]} answers every search that this index would answer",
                covered_by=covering, size_bytes=forecast.index.size_bytes,
            )  # fmt: skip
        node = step.node.index_stmt
        elements = tuple(e.index_elem.name for e in node.index_params)
        for earlier in self.target.indexes:
            same = (
                not node.unique
                and earlier.table == relation.oid
                and earlier.method == node.access_method
                and not earlier.where
            )
            if (
                same
                and not node.HasField("where_clause")
                and all(elements)
                and earlier.elements[: len(elements)] == elements
            ):
                self._add(
                    "migration_redundant", WARNING, step,
                    f"an earlier statement of this file makes {earlier.name or 'an index'} with these leading keys",
                )  # fmt: skip
        if forecast.redundant:
            text = f"it makes redundant: {', '.join(forecast.redundant)}"
            self.good.append(("migration_redundant", step, text, {"redundant": list(forecast.redundant)}))

    def _gone_names(self) -> set[str]:
        facts = (self.target.facts.get(oid) for oid in self.target.gone)
        return {clean_line(f"{f['schema']}.{f['name']}") for f in facts if f}

    def _gain(self, step: Step, forecast: Forecast) -> None:
        evidence: dict[str, Any] = {
            "size_bytes": forecast.index.size_bytes,
            "build_seconds": list(forecast.index.build_seconds),
            "cost_before": round(forecast.cost_before, 2),
            "cost_after": round(forecast.cost_after, 2),
            "hot_lost_pct": forecast.writes.hot_lost_pct,
            "confidence": forecast.confidence.level,
            "queries": [
                {"queryid": q.queryid, "query": q.query[:200], "calls": q.calls, "cost_before": q.cost_before,
                 "cost_after": q.cost_after}
                for q in forecast.queries if q.uses_index or q.cost_after != q.cost_before
            ][:10],
        }  # fmt: skip
        if self.workload is None:
            self._add("migration_gain", UNKNOWN, step, f"whether it helps is not known: {self.no_workload}", **evidence)
            return
        better = [q for q in forecast.queries if q.cost_after < q.cost_before * GAIN]
        better_at = [q for q in forecast.queries if any(p.cost_after < p.cost_before * GAIN for p in q.points)]
        worse = [q for q in forecast.queries if q.cost_after > q.cost_before * WORSE]
        if worse:
            self._add(
                "migration_gain", WARNING, step,
                f"{counted(len(worse), 'statement gets', 'statements get')} dearer, the first from "
                f"{worse[0].cost_before:,.0f} to {worse[0].cost_after:,.0f}: {worse[0].query[:100]}", **evidence,
            )  # fmt: skip
        if better:
            share = 100 * (1 - forecast.cost_after / forecast.cost_before) if forecast.cost_before else 0.0
            text = (
                f"{counted(len(better), 'statement gets', 'statements get')} cheaper; the workload costs {share:.1f} % less"
            )
            self.good.append(("migration_gain", step, text, evidence))
        elif better_at:
            text = f"{counted(len(better_at), 'statement gets', 'statements get')} cheaper for some constants"
            self.good.append(("migration_gain", step, text, evidence))
        elif not step.node.index_stmt.unique:
            size = f"{forecast.index.size_bytes / 1e6:,.1f} MB"
            self._add(
                "migration_gain", WARNING, step, f"no statement of the workload would get cheaper; it costs {size} and "
                "a part of every write", **evidence,
            )  # fmt: skip

    def _unique(self, step: Step, relation: Relation, forecast: Forecast) -> None:
        node, rows = step.node.index_stmt, self.target.snapshot.rows(relation.oid)
        if len(node.index_params) != 1 or node.HasField("where_clause") or rows < 1:
            return
        stats = self.target.snapshot.column_stats(relation, node.index_params[0].index_elem.name)
        if stats is None or stats.n_distinct == 0:
            return
        filled = 1 - float(stats.null_frac or 0)
        distinct = stats.n_distinct if stats.n_distinct > 0 else -stats.n_distinct * rows
        if filled > 0 and distinct < DISTINCT * rows * filled:
            self._add(
                "migration_unique", CRITICAL, step,
                f"the statistics have about {distinct:,.0f} distinct values in {rows * filled:,.0f} rows: the build fails "
                "(23505) and leaves an INVALID index", "remove the duplicates first", size_bytes=forecast.index.size_bytes,
            )  # fmt: skip

    # --- DROP and REINDEX ------------------------------------------------------------------------------------------

    async def drop(self, step: Step) -> None:
        from postgast import pg_query_pb2 as pb

        node = step.node.drop_stmt
        names = [[i.string.sval for i in item.list.items] for item in node.objects]
        fixed = "\n".join(f"DROP INDEX CONCURRENTLY {quoted(parts)};" for parts in names)
        if node.concurrent:
            self._concurrent(step)
            if len(names) > 1:
                self._add("migration_locks", CRITICAL, step, "CONCURRENTLY takes one index a statement (0A000)", fixed)
        if node.behavior == pb.DROP_CASCADE:
            self._add("migration_drops", CRITICAL, step, "CASCADE drops whatever depends on the index with it", fixed)
        for parts in names:
            name: Name = (parts[-2] if len(parts) > 1 else "", parts[-1])
            facts = self.target.index(step, name)
            if facts is None or facts["oid"] in self.target.gone:
                self._not_there(step, name, node.missing_ok)
                continue
            if not node.concurrent:
                table = self.target.snapshot.relations[facts["table_oid"]]
                self._add(
                    "migration_locks", CRITICAL, step,
                    f"DROP INDEX without CONCURRENTLY takes an ACCESS EXCLUSIVE lock on {clean_line(table.qualified)}: "
                    "while it waits for running statements, all others wait behind it", fixed,
                )  # fmt: skip
            await self._blast(step, facts)
            self.target.gone.add(facts["oid"])

    def _not_there(self, step: Step, name: Name, missing_ok: bool) -> None:
        shown = clean_line(".".join(x for x in name if x))
        if any(made.name == clean_line(name[1]) for made in self.target.indexes):
            return  # an earlier statement of the file made it
        if missing_ok:
            self._add("migration_names", WARNING, step, f"there is no index {shown}: IF EXISTS makes that a success")
        else:
            self._add("migration_names", CRITICAL, step, f"there is no index {shown} (42704)")

    async def _blast(self, step: Step, facts: Row) -> None:
        shown = clean_line(f"{facts['schema']}.{facts['name']}")
        ddl = f"DROP INDEX {quoted([facts['schema'], facts['name']])}"
        forecast = await self._simulate(step, ddl, "migration_drops")
        if forecast is None or forecast.drop is None:
            return
        drop = forecast.drop
        replaced = next((m for m in self.target.indexes if shown in m.redundant and m.table == facts["table_oid"]), None)
        evidence = drop_evidence(shown, drop)
        if drop.refused:
            self._add("migration_drops", CRITICAL, step, f"{shown}: refused: {drop.refused[0]}", **evidence)
        elif drop.breaks:
            self._add("migration_drops", CRITICAL, step, f"{shown}: {drop.breaks[0]}", **evidence)
        elif replaced is not None:
            text = f"{shown}: {replaced.name or 'an index'} of an earlier statement answers the same searches"
            self.good.append(("migration_drops", step, text, evidence))
        elif drop.level == "slower":
            self._add("migration_drops", WARNING, step, f"{shown}: {_dearer(drop)}", **evidence)
        elif drop.level == "unknown" or self.workload is None:
            why = drop.unknown[0] if drop.unknown else self.no_workload
            self._add("migration_drops", UNKNOWN, step, f"{shown}: not everything could be looked at: {why}", **evidence)
        else:
            self.good.append(("migration_drops", step, f"{shown}: nothing hangs on it", evidence))

    def reindex(self, step: Step) -> None:
        node = step.node.reindex_stmt
        if any(p.def_elem.defname == "concurrently" for p in node.params):
            self._concurrent(step)
            return
        self._add(
            "migration_locks", CRITICAL, step,
            "REINDEX without CONCURRENTLY blocks all writes, and all reads that would plan with the index",
            "REINDEX (CONCURRENTLY) ...",
        )  # fmt: skip


def _dearer(drop: DropForecast) -> str:
    """What gets dearer with a drop, in a few words."""
    if drop.served_keys:
        return f"foreign key {drop.served_keys[0].name} loses its only index"
    worst = drop.plans[0]
    changes = counted(len(drop.plans), "plan changes", "plans change")
    return f"{changes}, the worst from cost {worst.cost_before:,.0f} to {worst.cost_after:,.0f}"
