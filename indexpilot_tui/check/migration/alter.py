"""ALTER TABLE in a migration: the lock that each of its deeds takes, and what it does while it holds it. Pure.

Locks and scans are those of PostgreSQL's documentation (ALTER TABLE, Explicit Locking).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psycopg import sql

from indexpilot_tui.check.migration.findings import Finding
from indexpilot_tui.check.migration.script import Step
from indexpilot_tui.check.migration.target import PAGE, Migrated
from indexpilot_tui.check.model import RuleStatus
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.snapshot import Relation

SMALL_PAGES = 128  # 1 MB: what reads the whole table is over in milliseconds
_ACCESS = "ACCESS EXCLUSIVE lock (reads and writes wait)"


def size_words(pages: int) -> str:
    return f"{pages * PAGE / 1e6:,.1f} MB"


def judge_alter(step: Step, target: Migrated) -> Iterator[Finding]:
    """The findings of one ALTER TABLE."""
    from postgast import pg_query_pb2 as pb

    node = step.node.alter_table_stmt
    name = (node.relation.schemaname, node.relation.relname)
    if node.objtype not in (pb.OBJECT_TABLE, pb.OBJECT_MATVIEW) or target.made(name):
        return
    relation = target.table(step, name)
    if relation is None:
        if not node.missing_ok:
            shown = clean_line(".".join(x for x in name if x))
            yield Finding("migration_names", RuleStatus.CRITICAL, step, f"there is no table {shown}")
        return
    for item in node.cmds:
        yield from _command(step, item.alter_table_cmd, relation, target)
    if not step.lock_timeout and any(c.alter_table_cmd.subtype != pb.AT_ValidateConstraint for c in node.cmds):
        yield Finding(
            "migration_session", RuleStatus.WARNING, step,
            "ALTER TABLE without lock_timeout: while it waits for its lock, everybody behind it waits as well",
            "SET lock_timeout = '2s';  -- before it, and try again when it fails",
        )  # fmt: skip


def _heavy(target: Migrated, relation: Relation) -> RuleStatus:
    return RuleStatus.CRITICAL if target.pages(relation) > SMALL_PAGES else RuleStatus.WARNING


def _locks(step: Step, target: Migrated, relation: Relation, what: str, fix: str = "") -> Finding:
    size = size_words(target.pages(relation))
    table = clean_line(relation.qualified)
    return Finding(
        "migration_locks", _heavy(target, relation), step, f"{what} ({table}, {size})", fix,
        {"table": table, "table_bytes": target.pages(relation) * PAGE},
    )  # fmt: skip


def _command(step: Step, command: Any, relation: Relation, target: Migrated) -> Iterator[Finding]:
    from postgast import pg_query_pb2 as pb

    kind = command.subtype
    if kind == pb.AT_AddConstraint:
        yield from constraint(step, _def(command).constraint, relation, target)
    elif kind == pb.AT_AddColumn:
        yield from _add_column(step, _def(command).column_def, relation, target)
    elif kind == pb.AT_SetNotNull:
        yield _locks(
            step, target, relation, f"SET NOT NULL reads the whole table under an {_ACCESS}",
            "add CHECK (column IS NOT NULL) NOT VALID, VALIDATE CONSTRAINT, then SET NOT NULL, which then reads nothing",
        )  # fmt: skip
    elif kind == pb.AT_AlterColumnType:
        yield _locks(
            step, target, relation, f"a new type may write the table and all its indexes again under an {_ACCESS}",
            "add a column of the new type, fill it in batches, and change over",
        )  # fmt: skip
    elif kind == pb.AT_DropColumn:
        yield from _drop_column(step, command.name, relation, target)
    elif kind == pb.AT_DropConstraint:
        yield from _drop_constraint(step, command.name, relation, target)
    elif kind in (pb.AT_SetLogged, pb.AT_SetUnLogged, pb.AT_SetTableSpace, pb.AT_SetAccessMethod):
        yield _locks(step, target, relation, f"it writes the whole table again under an {_ACCESS}")


def _def(command: Any) -> Any:
    return getattr(command, "def")


def constraint(step: Step, node: Any, relation: Relation, target: Migrated) -> Iterator[Finding]:
    """A constraint that is added to a table that is there."""
    from postgast import pg_query_pb2 as pb

    table = sql.Identifier(relation.schema, relation.name).as_string(None)
    if node.contype in (pb.CONSTR_PRIMARY, pb.CONSTR_UNIQUE):
        word = "PRIMARY KEY" if node.contype == pb.CONSTR_PRIMARY else "UNIQUE"
        if not node.indexname:
            columns = ", ".join(sql.Identifier(k.string.sval).as_string(None) for k in node.keys) or "..."
            yield _locks(
                step, target, relation, f"{word} builds its index under an {_ACCESS}",
                f"CREATE UNIQUE INDEX CONCURRENTLY name ON {table} ({columns});\n"
                f"ALTER TABLE {table} ADD CONSTRAINT name {word} USING INDEX name;",
            )  # fmt: skip
    elif node.contype == pb.CONSTR_EXCLUSION:
        yield _locks(step, target, relation, f"EXCLUDE builds its index under an {_ACCESS}, and cannot be built otherwise")
    elif node.contype == pb.CONSTR_FOREIGN:
        if not node.skip_validation:
            yield _locks(
                step, target, relation,
                "FOREIGN KEY reads the whole table under a SHARE ROW EXCLUSIVE lock on both tables (writes wait)",
                "add it NOT VALID, then ALTER TABLE ... VALIDATE CONSTRAINT in a statement of its own",
            )  # fmt: skip
        yield from _unindexed_key(step, [k.string.sval for k in node.fk_attrs], relation, target)
    elif node.contype in (pb.CONSTR_CHECK, pb.CONSTR_NOTNULL) and not node.skip_validation:
        yield _locks(
            step, target, relation, f"the constraint reads the whole table under an {_ACCESS}",
            "add it NOT VALID, then ALTER TABLE ... VALIDATE CONSTRAINT in a statement of its own",
        )  # fmt: skip


def _unindexed_key(step: Step, columns: list[str], relation: Relation, target: Migrated) -> Iterator[Finding]:
    numbers = {c.name: c.number for c in relation.columns}
    wanted = {numbers.get(c, -1) for c in columns}
    for entry in target.snapshot.indexes.values():
        partial = target.facts.get(entry.oid, {}).get("is_partial", False)
        leading = entry.columns[: min(len(columns), entry.key_columns)]
        if entry.table_oid == relation.oid and entry.oid not in target.gone and not partial and set(leading) == wanted:
            return
    for made in target.indexes:
        if made.table == relation.oid and not made.where and set(made.elements[: len(columns)]) == set(columns):
            return
    table = sql.Identifier(relation.schema, relation.name).as_string(None)
    small = target.pages(relation) <= SMALL_PAGES
    if not small:
        yield Finding(
            "migration_keys", RuleStatus.WARNING, step,
            f"no index leads with ({clean_line(', '.join(columns))}): each DELETE on the referenced table, and each UPDATE "
            f"of its key, reads all of {clean_line(relation.qualified)} ({size_words(target.pages(relation))})",
            f"CREATE INDEX CONCURRENTLY ON {table} ({', '.join(sql.Identifier(c).as_string(None) for c in columns)});",
        )  # fmt: skip


def _add_column(step: Step, node: Any, relation: Relation, target: Migrated) -> Iterator[Finding]:
    from postgast import pg_query_pb2 as pb

    for item in node.constraints:
        one = item.constraint
        if one.contype in (pb.CONSTR_PRIMARY, pb.CONSTR_UNIQUE):
            yield _locks(
                step, target, relation, f"a UNIQUE column builds its index under an {_ACCESS}",
                "add the column, CREATE UNIQUE INDEX CONCURRENTLY, then ADD CONSTRAINT ... USING INDEX",
            )  # fmt: skip
        elif one.contype in (pb.CONSTR_GENERATED, pb.CONSTR_IDENTITY):
            yield _locks(
                step, target, relation, f"a stored generated or identity column writes the table again under an {_ACCESS}"
            )
        elif one.contype == pb.CONSTR_DEFAULT and _calls(one.raw_expr):
            yield _locks(
                step, target, relation,
                f"a default that calls a function writes the table again under an {_ACCESS} if the function is volatile",
                "add the column without it, set the default, and fill the rows in batches",
            )  # fmt: skip
        elif one.contype == pb.CONSTR_FOREIGN:
            yield from _unindexed_key(step, [node.colname], relation, target)


def _calls(expression: Any) -> bool:
    """Whether a default calls anything but the clock, which is not volatile."""
    import postgast
    from postgast import pg_query_pb2 as pb

    names = [call.funcname[-1].string.sval for call in postgast.find_nodes(expression, pb.FuncCall)]
    return any(name not in ("now", "transaction_timestamp", "statement_timestamp") for name in names)


def _drop_column(step: Step, column: str, relation: Relation, target: Migrated) -> Iterator[Finding]:
    number = next((c.number for c in relation.columns if c.name == column and not c.dropped), None)
    entries = [i for i in target.snapshot.indexes.values() if i.table_oid == relation.oid and number in i.columns]
    if entries:
        names = clean_line(", ".join(sorted(f"{i.schema}.{i.name}" for i in entries)))
        scans = sum(target.facts.get(i.oid, {}).get("scans") or 0 for i in entries)
        yield Finding(
            "migration_drops", RuleStatus.WARNING, step,
            f"with column {clean_line(column)} these indexes go: {names} ({scans:,} scans on this node)",
            evidence={"indexes": names, "scans": scans},
        )  # fmt: skip


def _drop_constraint(step: Step, name: str, relation: Relation, target: Migrated) -> Iterator[Finding]:
    for entry in target.snapshot.indexes.values():
        if entry.table_oid == relation.oid and entry.constraint_name == name:
            facts = target.facts.get(entry.oid, {})
            keys = facts.get("foreign_keys") or 0
            status = RuleStatus.CRITICAL if keys else RuleStatus.WARNING
            yield Finding(
                "migration_drops", status, step,
                f"with constraint {clean_line(name)} its index goes, and what it enforces"
                + (f"; {keys} foreign keys refer to it, so it is refused (2BP01)" if keys else "")
                + f" ({facts.get('scans') or 0:,} scans on this node)",
                evidence={"index": clean_line(f"{entry.schema}.{entry.name}"), "foreign_keys": keys},
            )  # fmt: skip
