"""What a statement does with the columns of each table in it: the raw material of candidate indexes.

One `Use` for each place where a table stands in FROM (a self-join has two). Columns are found through aliases, subqueries,
common table expressions and views down to the table; a correlated subquery sees the tables around it. What cannot be
attributed to one table is left alone: a missing use costs a candidate, never a wrong statement.
"""

from __future__ import annotations

from typing import Any

from indexpilot_tui.engine.postgres import parsing
from indexpilot_tui.engine.whatif.advise.candidate import quote
from indexpilot_tui.engine.whatif.advise.conditions import Conditions
from indexpilot_tui.engine.whatif.advise.scope import Output, Scope, Use
from indexpilot_tui.engine.whatif.advise.trees import add, pb_node, renamed, returning
from indexpilot_tui.engine.whatif.snapshot import Relation, Snapshot

_MAX_DEPTH = 40  # of nested views and subqueries


class Reader(Conditions):
    """Collects the uses of one statement."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.uses: list[Use] = []
        self._depth = 0

    # --- statements ------------------------------------------------------------------------------------------------

    def statement(self, node: Any) -> None:
        """Read one parsed statement (a Node)."""
        kind = node.WhichOneof("node")
        if kind is None:
            return
        inner = getattr(node, kind)
        if kind == "select_stmt":
            self.select(inner, None, {})
            return
        ctes = self._ctes(inner, None, {})
        scope = Scope(None)
        if kind == "insert_stmt":
            if inner.HasField("select_stmt"):
                self.select(inner.select_stmt.select_stmt, None, ctes)
            return
        if kind == "merge_stmt":
            self._from(pb_node("range_var", inner.relation), scope, ctes)
            self._from(inner.source_relation, scope, ctes)
            self._condition(inner.join_condition, scope, ctes, top=True)
            return
        self._from(pb_node("range_var", inner.relation), scope, ctes)
        for use in self.uses:
            use.whole = True  # the row itself is written
        for item in inner.from_clause if kind == "update_stmt" else inner.using_clause:
            self._from(item, scope, ctes)
        if inner.HasField("where_clause"):
            self._condition(inner.where_clause, scope, ctes, top=True)
        for target in (*(inner.target_list if kind == "update_stmt" else ()), *returning(inner)):
            self._columns(target, scope, ctes)

    def select(self, stmt: Any, outer: Scope | None, ctes: dict[str, Any], *, exists: bool = False) -> dict[str, Output]:
        """Read a SELECT; returns its output columns by name."""
        self._depth += 1
        try:
            if self._depth > _MAX_DEPTH:
                return {}
            return self._select(stmt, outer, self._ctes(stmt, outer, ctes), exists)
        finally:
            self._depth -= 1

    def _ctes(self, stmt: Any, outer: Scope | None, ctes: dict[str, Any]) -> dict[str, Any]:
        found = dict(ctes)
        for item in stmt.with_clause.ctes if stmt.HasField("with_clause") else ():
            cte = item.common_table_expr
            kind = cte.ctequery.WhichOneof("node")
            found[cte.ctename] = {}
            if kind == "select_stmt":
                found[cte.ctename] = self.select(cte.ctequery.select_stmt, outer, found)
            elif kind:
                self.statement(cte.ctequery)
        return found

    def _select(self, stmt: Any, outer: Scope | None, ctes: dict[str, Any], exists: bool) -> dict[str, Output]:
        if stmt.HasField("larg"):
            left = self.select(stmt.larg, outer, ctes)
            self.select(stmt.rarg, outer, ctes)
            return dict.fromkeys(left)
        scope = Scope(outer)
        for item in stmt.from_clause:
            self._from(item, scope, ctes)
        own = [u for uses in scope.uses.values() for u in uses]
        for use in own:
            use.limited = stmt.HasField("limit_count")
        if stmt.HasField("where_clause"):
            self._condition(stmt.where_clause, scope, ctes, top=True)
        outputs: dict[str, Output] = {}
        for target in stmt.target_list:
            self._target(target.res_target, scope, ctes, outputs, exists)
        if stmt.HasField("having_clause"):
            self._columns(stmt.having_clause, scope, ctes)
        for value in stmt.values_lists:
            self._columns(value, scope, ctes)
        self._order(stmt, scope, ctes, outputs)
        return outputs

    def _target(self, target: Any, scope: Scope, ctes: dict[str, Any], outputs: dict[str, Output], exists: bool) -> None:
        value = target.val
        if value.WhichOneof("node") == "column_ref":
            fields = value.column_ref.fields
            if fields and fields[-1].WhichOneof("node") == "a_star":
                if not exists:
                    self._star([f.string.sval for f in fields[:-1]], scope, outputs)
                return
            name = fields[-1].string.sval
            found = scope.find([f.string.sval for f in fields])
            outputs[target.name or name] = found
            if found is not None and not exists:
                found[0].count(found[1])
            return
        if target.name:
            outputs[target.name] = None
        self._columns(value, scope, ctes)

    def _star(self, qualifier: list[str], scope: Scope, outputs: dict[str, Output]) -> None:
        for alias in qualifier[-1:] or [*scope.uses, *scope.derived]:
            for use in scope.uses.get(alias, ()):
                use.whole = True
                outputs.update({c.name: (use, c.name) for c in use.table.columns if not c.dropped})
            for name, found in scope.derived.get(alias, {}).items():
                outputs[name] = found
                if found is not None:
                    found[0].count(found[1])

    def _order(self, stmt: Any, scope: Scope, ctes: dict[str, Any], outputs: dict[str, Output]) -> None:
        def resolve(node: Any) -> tuple[Use, str] | None:
            if node.WhichOneof("node") == "a_const" and node.a_const.WhichOneof("val") == "ival":
                position = node.a_const.ival.ival - 1
                targets = stmt.target_list
                return resolve(targets[position].res_target.val) if 0 <= position < len(targets) else None
            if node.WhichOneof("node") == "column_ref" and len(node.column_ref.fields) == 1:
                by_name = outputs.get(node.column_ref.fields[0].string.sval)
                if by_name is not None:
                    return by_name[0], quote(by_name[1])
            return self._key(node, scope)

        groups = [resolve(g) for g in stmt.group_clause] or [
            resolve(d) for d in stmt.distinct_clause if d.WhichOneof("node")
        ]
        for use in dict.fromkeys(id(g[0]) for g in groups if g is not None):
            owner = next(g[0] for g in groups if g is not None and id(g[0]) == use)
            owner.groups.append(tuple(g[1] for g in groups if g is not None and g[0] is owner))
        sorts: list[tuple[Use, tuple[str, bool, int]]] = []
        for item in stmt.sort_clause:
            found = resolve(item.sort_by.node)
            if found is None:
                break
            # SortByDir 3: DESC; SortByNulls 2: FIRST, 3: LAST
            sorts.append((found[0], (found[1], item.sort_by.sortby_dir == 3, max(0, item.sort_by.sortby_nulls - 1))))
        if sorts and not stmt.group_clause:
            owner = sorts[0][0]
            same = [s for u, s in sorts if u is owner]
            if len(same) == len(sorts):
                owner.sorts.append(tuple(same))
        for node in (*stmt.group_clause, *(s.sort_by.node for s in stmt.sort_clause)):
            self._columns(node, scope, ctes)

    # --- FROM ------------------------------------------------------------------------------------------------------

    def _from(self, node: Any, scope: Scope, ctes: dict[str, Any]) -> None:
        kind = node.WhichOneof("node")
        if kind == "range_var":
            self._relation(node.range_var, scope, ctes)
        elif kind == "range_subselect":
            item = node.range_subselect
            outputs = self.select(item.subquery.select_stmt, scope if item.lateral else scope.outer, ctes)
            scope.derived[item.alias.aliasname] = renamed(outputs, item.alias)
        elif kind == "join_expr":
            join = node.join_expr
            self._from(join.larg, scope, ctes)
            self._from(join.rarg, scope, ctes)
            for name in (c.string.sval for c in join.using_clause):
                self._using(name, scope)
            if join.HasField("quals"):
                self._condition(join.quals, scope, ctes, top=True)

    def _using(self, name: str, scope: Scope) -> None:
        for uses in scope.uses.values():
            for use in uses:
                if any(c.name == name and not c.dropped for c in use.table.columns):
                    add(use.joined, quote(name))
                    use.count(name)

    def _relation(self, item: Any, scope: Scope, ctes: dict[str, Any]) -> None:
        alias = item.alias.aliasname or item.relname
        if not item.schemaname and item.relname in ctes:
            scope.derived[alias] = renamed(ctes[item.relname], item.alias)
            return
        oid = self.snapshot.resolved.get((item.schemaname, item.relname))
        relation = self.snapshot.relations.get(oid) if oid is not None else None
        if relation is None:
            # a view names its tables with their schema when they are off its path; find them among what was read
            same = [r for r in self.snapshot.relations.values() if r.name == item.relname]
            same = [r for r in same if not item.schemaname or r.schema == item.schemaname]
            relation = same[0] if len(same) == 1 else None
        if relation is None:
            return
        if relation.kind == "v" and relation.view:
            scope.derived[alias] = self._view(relation)
        elif relation.kind in ("r", "p", "m"):
            use = Use(relation)
            self.uses.append(use)
            scope.uses.setdefault(alias, []).append(use)

    def _view(self, relation: Relation) -> dict[str, Output]:
        import postgast

        try:
            tree = parsing.parse(relation.view or "")
        except postgast.PgQueryError:
            return {}
        outputs = self.select(tree.stmts[0].stmt.select_stmt, None, {}) if tree.stmts else {}
        names = [c.name for c in relation.columns if not c.dropped]
        return dict(zip(names, outputs.values(), strict=False)) if len(names) == len(outputs) else outputs


def uses_of(tree: Any, snapshot: Snapshot) -> list[Use]:
    """The uses of every table in a parsed statement, in the order of the text."""
    reader = Reader(snapshot)
    reader.statement(tree.stmts[0].stmt)
    return reader.uses
