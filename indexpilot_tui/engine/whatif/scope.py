"""Which column of which table a name in a statement means."""

from __future__ import annotations

from typing import Any

from indexpilot_tui.engine.whatif.snapshot import Relation, Snapshot


class Scope:
    """The tables of a statement by alias and by name; a column without a qualifier belongs to the only table that has it."""

    def __init__(self, tree: Any, snapshot: Snapshot) -> None:
        import postgast
        from postgast import pg_query_pb2 as pb

        self.by_alias: dict[str, set[int]] = {}
        self.tables: dict[int, Relation] = {}
        for item in postgast.find_nodes(tree, pb.RangeVar):
            oid = snapshot.resolved.get((item.schemaname, item.relname))
            table = snapshot.table(oid) if oid is not None else None
            if table is not None:
                self.tables[table.oid] = table
                self.by_alias.setdefault(item.alias.aliasname or item.relname, set()).add(table.oid)

    def column(self, node: Any) -> tuple[int, str] | None:
        """(table, column) of a column reference; None for anything else, and when it is not clear."""
        while node.WhichOneof("node") == "type_cast":
            node = node.type_cast.arg
        if node.WhichOneof("node") != "column_ref":
            return None
        names = [f.string.sval for f in node.column_ref.fields]
        if not names or not names[-1]:
            return None
        among = self.by_alias.get(names[-2], set()) if len(names) > 1 else set(self.tables)
        having = [o for o in among if any(c.name == names[-1] and not c.dropped for c in self.tables[o].columns)]
        return (having[0], names[-1]) if len(having) == 1 else None
