"""A migration file against a target, live or captured: every statement judged in order, findings as rules of a check."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from indexpilot_tui.check.context import Forecaster
from indexpilot_tui.check.migration.alter import judge_alter, size_words
from indexpilot_tui.check.migration.findings import Finding, results
from indexpilot_tui.check.migration.indexes import IndexJudge
from indexpilot_tui.check.migration.script import Step
from indexpilot_tui.check.migration.target import Migrated, read_target
from indexpilot_tui.check.model import CheckReport, RuleStatus
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.workload import from_pg_stat_statements
from indexpilot_tui.errors import NotInstalledError, PrivilegeError

# what takes a lock for a moment, or touches no table that is there
_HARMLESS = {
    "transaction_stmt", "variable_set_stmt", "variable_show_stmt", "select_stmt", "comment_stmt", "create_schema_stmt",
    "create_extension_stmt", "create_seq_stmt", "create_enum_stmt", "create_domain_stmt", "composite_type_stmt",
    "grant_stmt", "create_function_stmt", "view_stmt", "create_role_stmt", "create_stats_stmt", "rename_stmt", "insert_stmt",
    "create_stmt", "create_table_as_stmt",
}  # fmt: skip
# written in SQL or PL/pgSQL inside a text: nobody looks into it
_OPAQUE = {"do_stmt": "a DO block", "call_stmt": "a procedure", "execute_stmt": "a prepared statement"}


async def judge(
    session: Session, steps: Sequence[Step], forecaster: Forecaster, label: str,
    workload: Sequence[Statement] | None = None,
) -> CheckReport:  # fmt: skip
    """Judge a file against the target behind `session` (which may answer from a bundle).

    `workload` None: that of pg_stat_statements. Raises what Session.rows raises when the target cannot be read.
    """
    started_at, started = datetime.now(UTC), time.perf_counter()
    target = await read_target(session, steps)
    reason = ""
    if workload is None:
        try:
            workload = await from_pg_stat_statements(session)
        except (NotInstalledError, PrivilegeError) as exc:
            reason = clean_line(exc.message, 200)
    indexes = IndexJudge(target, forecaster, workload, reason)
    findings = indexes.findings
    for step in steps:
        await _one(step, target, indexes, findings)
    rules = results(findings, indexes.good)
    return CheckReport(clean_line(label), started_at, (time.perf_counter() - started) * 1000, tuple(rules))


async def _one(step: Step, target: Migrated, indexes: IndexJudge, findings: list[Finding]) -> None:
    if step.node is None:
        findings.append(
            Finding("migration_read", RuleStatus.UNKNOWN, step, f"PostgreSQL's parser does not take it: {step.error}")
        )
    elif step.kind == "index_stmt":
        await indexes.create(step)
    elif step.kind == "drop_stmt":
        await _drop(step, target, indexes, findings)
    elif step.kind == "reindex_stmt":
        indexes.reindex(step)
    elif step.kind == "alter_table_stmt":
        findings.extend(judge_alter(step, target))
    elif step.kind in ("create_stmt", "create_table_as_stmt"):
        findings.extend(_table(step, target))
    elif step.kind in ("cluster_stmt", "vacuum_stmt", "refresh_mat_view_stmt"):
        findings.extend(_rewrite(step, target))
    elif step.kind in _OPAQUE:
        findings.append(
            Finding(
                "migration_read",
                RuleStatus.UNKNOWN,
                step,
                f"{_OPAQUE[step.kind]} cannot be looked into",
                "write its DDL as statements of the file, or check it by hand",
            )
        )
    elif step.kind not in _HARMLESS:
        indexes.good.append(("migration_read", step, f"not judged: {step.kind.removesuffix('_stmt')}", {}))


async def _drop(step: Step, target: Migrated, indexes: IndexJudge, findings: list[Finding]) -> None:
    from postgast import pg_query_pb2 as pb

    node = step.node.drop_stmt
    if node.remove_type == pb.OBJECT_INDEX:
        await indexes.drop(step)
    elif node.remove_type in (pb.OBJECT_TABLE, pb.OBJECT_MATVIEW):
        for item in node.objects:
            parts = [i.string.sval for i in item.list.items]
            relation = target.table(step, (parts[-2] if len(parts) > 1 else "", parts[-1]))
            if relation is not None:
                text = (
                    f"the table {clean_line(relation.qualified)} ({size_words(target.pages(relation))}) goes, with its rows"
                )
                findings.append(Finding("migration_locks", RuleStatus.CRITICAL, step, text))


def _table(step: Step, target: Migrated) -> list[Finding]:
    """A new table: what is made on it later is harmless. A foreign key of it locks the table that it refers to."""
    if step.kind == "create_table_as_stmt":
        relation = step.node.create_table_as_stmt.into.rel
    else:
        relation = step.node.create_stmt.relation
    name = (relation.schemaname, relation.relname)
    there = target.table(step, name)
    if there is None:
        target.tables_made.add(name)
        return []
    if (step.node.create_stmt if step.kind == "create_stmt" else step.node.create_table_as_stmt).if_not_exists:
        text = f"{clean_line(there.qualified)} is there already: IF NOT EXISTS makes that a success, whatever it looks like"
        return [Finding("migration_names", RuleStatus.WARNING, step, text)]
    text = f"a relation named {clean_line(there.qualified)} is there already (42P07)"
    return [Finding("migration_names", RuleStatus.CRITICAL, step, text)]


def _rewrite(step: Step, target: Migrated) -> list[Finding]:
    """CLUSTER, VACUUM FULL and REFRESH MATERIALIZED VIEW write a table again with nobody else at it."""
    node: Any = getattr(step.node, step.kind)
    if step.kind == "vacuum_stmt":
        if not any(o.def_elem.defname == "full" for o in node.options):
            return []
        names = [(r.vacuum_relation.relation.schemaname, r.vacuum_relation.relation.relname) for r in node.rels]
        what = "VACUUM FULL"
    else:
        if step.kind == "refresh_mat_view_stmt" and node.concurrent:
            return []
        names = [(node.relation.schemaname, node.relation.relname)]
        what = "CLUSTER" if step.kind == "cluster_stmt" else "REFRESH MATERIALIZED VIEW without CONCURRENTLY"
    found: list[Finding] = []
    for name in names:
        relation = target.table(step, name)
        where = (
            f"{clean_line(relation.qualified)} ({size_words(target.pages(relation))})" if relation else clean_line(name[1])
        )
        text = f"{what} writes {where} again under an ACCESS EXCLUSIVE lock (reads and writes wait)"
        found.append(Finding("migration_locks", RuleStatus.CRITICAL, step, text))
    return found
