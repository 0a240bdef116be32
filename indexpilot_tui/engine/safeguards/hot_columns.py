"""Which columns statements write, read by PostgreSQL's own parser, and how many updates a new index would keep from being
HOT (an update that touches no indexed column writes no index at all). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from indexpilot_tui.engine.postgres.ddl import parse_index_statement

ENOUGH = 20  # calls; fewer say nothing of how a table is updated


@dataclass(frozen=True, slots=True)
class Written:
    """What one statement writes of a table. `columns` are those that it updates (empty: it updates none); None: its text
    cannot be parsed, so it may update any."""

    calls: float
    columns: frozenset[str] | None

    @property
    def updates(self) -> bool:
        return self.columns is None or bool(self.columns)


def indexed_columns(ddl: str) -> frozenset[str]:
    """Every column that a planned index looks at: of its keys, INCLUDE, expressions and predicate."""
    import postgast
    from postgast import pg_query_pb2 as pb

    node = parse_index_statement(ddl).tree.index_stmt
    found = set()
    for param in [*node.index_params, *node.index_including_params]:
        element = param.index_elem
        found |= {element.name} if element.name else set(_references(element.expr))
    if node.HasField("where_clause"):
        found |= {s for r in postgast.find_nodes(node.where_clause, pb.ColumnRef) for s in _strings(r)}
    return frozenset(found)


def _references(expression: Any) -> Iterable[str]:
    import postgast
    from postgast import pg_query_pb2 as pb

    return (s for reference in postgast.find_nodes(expression, pb.ColumnRef) for s in _strings(reference))


def _strings(node: Any) -> list[str]:
    import postgast
    from postgast import pg_query_pb2 as pb

    return [part.sval for part in postgast.find_nodes(node, pb.String)]


def written(text: str, calls: float, schema: str, table: str) -> Written | None:
    """What a statement writes of a table; None: nothing (it only names it). A name without a schema is taken for ours."""
    import postgast
    from postgast import pg_query_pb2 as pb

    try:
        tree = postgast.parse(text)
    except postgast.PgQueryError:
        return Written(calls, None)
    columns: set[str] = set()
    writes = False

    def ours(relation: Any) -> bool:
        return relation.relname == table and relation.schemaname in ("", schema)

    def targets(nodes: Any) -> set[str]:
        return {node.res_target.name for node in nodes}

    for update in postgast.find_nodes(tree, pb.UpdateStmt):
        if ours(update.relation):
            writes, columns = True, columns | targets(update.target_list)
    for insert in postgast.find_nodes(tree, pb.InsertStmt):
        if ours(insert.relation):
            writes = True
            if insert.HasField("on_conflict_clause"):
                columns |= targets(insert.on_conflict_clause.target_list)
    for merge in postgast.find_nodes(tree, pb.MergeStmt):
        if ours(merge.relation):
            writes = True
            for clause in merge.merge_when_clauses:
                if clause.merge_when_clause.command_type == pb.CMD_UPDATE:
                    columns |= targets(clause.merge_when_clause.target_list)
    writes = writes or any(ours(delete.relation) for delete in postgast.find_nodes(tree, pb.DeleteStmt))
    return Written(calls, frozenset(columns)) if writes else None


def lost_share(statements: Sequence[Written], today: frozenset[str], new: frozenset[str]) -> float | None:
    """The share (0..1) of the updates, by calls, that are HOT today as far as their columns go and would not be with the new
    index; None: fewer than ENOUGH calls are known. Where it cannot be told what is written, the worst is assumed."""
    updates = [s for s in statements if s.updates]
    total = sum(s.calls for s in updates)
    if total < ENOUGH:
        return None
    lost = sum(s.calls for s in updates if s.columns is None or (s.columns & new and not s.columns & today))
    return lost / total
