"""What a statement does with the columns of each table in it: the raw material of candidate indexes.

One `Use` for each place where a table stands in FROM (a self-join has two). Columns are found through aliases, subqueries,
common table expressions and views down to the table; a correlated subquery sees the tables around it. What cannot be
attributed to one table is left alone: a missing use costs a candidate, never a wrong statement.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from indexpilot_tui.engine.whatif.advise.candidate import quote
from indexpilot_tui.engine.whatif.snapshot import Relation, Snapshot

RANGE = {"<", "<=", ">", ">=", "~<~", "~<=~", "~>~", "~>=~"}
CONTAINMENT = {"@>", "<@", "&&", "?", "?|", "?&", "@@", "@?", "-|-"}
_MAX_DEPTH = 40  # of nested views and subqueries


@dataclass(slots=True)
class Use:
    """Of one table at one place. Keys are SQL as `Candidate.keys` has them; lists keep the order of the text.

    `equal` maps to the constant it is compared with (None: a parameter or an expression); `searched` are
    (operator, key, constant) of operators that need another access method; `predicates` are conjuncts without
    parameters, as SQL, that a partial index could have; `obstacles` are reasons why a condition serves no index.
    """

    table: Relation
    equal: dict[str, str | None] = field(default_factory=dict)
    ranged: list[str] = field(default_factory=list)
    joined: list[str] = field(default_factory=list)
    sorts: list[tuple[tuple[str, bool, int], ...]] = field(default_factory=list)  # key, descending, nulls (0, 1 first, 2 last)
    groups: list[tuple[str, ...]] = field(default_factory=list)
    searched: list[tuple[str, str, str | None]] = field(default_factory=list)
    predicates: dict[str, tuple[str, ...]] = field(default_factory=dict)  # SQL -> quoted columns, as often as it names them
    obstacles: list[str] = field(default_factory=list)
    columns: dict[str, int] = field(default_factory=dict)  # quoted column -> how often it is named
    whole: bool = False  # all columns are wanted
    limited: bool = False

    def count(self, column: str) -> None:
        """Note that a column is wanted."""
        self.columns[quote(column)] = self.columns.get(quote(column), 0) + 1

    def leading(self) -> set[str]:
        """Keys with which an index can start to be of use here."""
        found = {*self.equal, *self.ranged, *self.joined, *(k for _, k, _ in self.searched)}
        found |= {s[0][0] for s in self.sorts if s}
        return found | {k for g in self.groups for k in g}


Output = tuple["Use", str] | None  # the table's column behind an output column


class _Scope:
    def __init__(self, outer: _Scope | None) -> None:
        self.outer = outer
        self.uses: dict[str, list[Use]] = {}
        self.derived: dict[str, dict[str, Output]] = {}

    def find(self, names: list[str]) -> Output:
        """The one use that a column reference means; None when it is none or not clear."""
        column = names[-1]
        hits: list[tuple[Use, str]] = []
        shadowed = False
        for alias in [names[-2]] if len(names) > 1 else [*self.uses, *self.derived]:
            for use in self.uses.get(alias, ()):
                if any(c.name == column and not c.dropped for c in use.table.columns):
                    hits.append((use, column))
            if column in self.derived.get(alias, {}):
                shadowed = True
                inner = self.derived[alias][column]
                if inner is not None:
                    hits.append(inner)
        if len(hits) == 1:
            return hits[0]
        if hits or shadowed or self.outer is None:
            return None
        return self.outer.find(names)


class Reader:
    """Collects the uses of one statement."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.uses: list[Use] = []
        self._depth = 0

    # --- statements ------------------------------------------------------------------------------------------------

    def statement(self, node: Any) -> None:
        """Read one parsed statement (a Node)."""
        kind = node.WhichOneof("node")
        inner = getattr(node, kind) if kind else None
        if kind == "select_stmt":
            self.select(inner, None, {})
            return
        ctes = self._ctes(inner, None, {})
        scope = _Scope(None)
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
        for target in (*(inner.target_list if kind == "update_stmt" else ()), *_returning(inner)):
            self._columns(target, scope, ctes)

    def select(self, stmt: Any, outer: _Scope | None, ctes: dict[str, Any], *, exists: bool = False) -> dict[str, Output]:
        """Read a SELECT; returns its output columns by name."""
        self._depth += 1
        try:
            if self._depth > _MAX_DEPTH:
                return {}
            return self._select(stmt, outer, self._ctes(stmt, outer, ctes), exists)
        finally:
            self._depth -= 1

    def _ctes(self, stmt: Any, outer: _Scope | None, ctes: dict[str, Any]) -> dict[str, Any]:
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

    def _select(self, stmt: Any, outer: _Scope | None, ctes: dict[str, Any], exists: bool) -> dict[str, Output]:
        if stmt.HasField("larg"):
            left = self.select(stmt.larg, outer, ctes)
            self.select(stmt.rarg, outer, ctes)
            return dict.fromkeys(left)
        scope = _Scope(outer)
        first = len(self.uses)
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
        del first
        return outputs

    def _target(self, target: Any, scope: _Scope, ctes: dict[str, Any], outputs: dict[str, Output], exists: bool) -> None:
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

    def _star(self, qualifier: list[str], scope: _Scope, outputs: dict[str, Output]) -> None:
        for alias in qualifier[-1:] or [*scope.uses, *scope.derived]:
            for use in scope.uses.get(alias, ()):
                use.whole = True
                outputs.update({c.name: (use, c.name) for c in use.table.columns if not c.dropped})
            for name, found in scope.derived.get(alias, {}).items():
                outputs[name] = found
                if found is not None:
                    found[0].count(found[1])

    def _order(self, stmt: Any, scope: _Scope, ctes: dict[str, Any], outputs: dict[str, Output]) -> None:
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

    def _from(self, node: Any, scope: _Scope, ctes: dict[str, Any]) -> None:
        kind = node.WhichOneof("node")
        if kind == "range_var":
            self._relation(node.range_var, scope, ctes)
        elif kind == "range_subselect":
            item = node.range_subselect
            outputs = self.select(item.subquery.select_stmt, scope if item.lateral else scope.outer, ctes)
            scope.derived[item.alias.aliasname] = _renamed(outputs, item.alias)
        elif kind == "join_expr":
            join = node.join_expr
            self._from(join.larg, scope, ctes)
            before = list(scope.uses)
            self._from(join.rarg, scope, ctes)
            for name in (c.string.sval for c in join.using_clause):
                self._using(name, scope, before)
            if join.HasField("quals"):
                self._condition(join.quals, scope, ctes, top=True)

    def _using(self, name: str, scope: _Scope, before: list[str]) -> None:
        for uses in scope.uses.values():
            for use in uses:
                if any(c.name == name and not c.dropped for c in use.table.columns):
                    _add(use.joined, quote(name))
                    use.count(name)
        del before

    def _relation(self, item: Any, scope: _Scope, ctes: dict[str, Any]) -> None:
        alias = item.alias.aliasname or item.relname
        if not item.schemaname and item.relname in ctes:
            scope.derived[alias] = _renamed(ctes[item.relname], item.alias)
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
            tree = postgast.parse(relation.view or "")
        except postgast.PgQueryError:
            return {}
        outputs = self.select(tree.stmts[0].stmt.select_stmt, None, {}) if tree.stmts else {}
        names = [c.name for c in relation.columns if not c.dropped]
        return dict(zip(names, outputs.values(), strict=False)) if len(names) == len(outputs) else outputs

    # --- conditions ------------------------------------------------------------------------------------------------

    def _condition(self, node: Any, scope: _Scope, ctes: dict[str, Any], *, top: bool) -> None:
        kind = node.WhichOneof("node")
        if kind == "bool_expr":
            negated = node.bool_expr.boolop == 3  # NOT_EXPR
            if negated and top:
                self._predicate(node, scope)
            for arg in node.bool_expr.args:
                self._condition(arg, scope, ctes, top=top and node.bool_expr.boolop == 1)  # AND_EXPR
            return
        if kind == "sub_link":
            self._sublink(node.sub_link, scope, ctes)
            return
        if top:
            self._predicate(node, scope)
        if kind == "a_expr":
            self._comparison(node.a_expr, scope)
        elif kind == "null_test":
            found = self._key(node.null_test.arg, scope)
            if found is not None and node.null_test.nulltesttype == 1:  # IS_NULL
                found[0].equal.setdefault(found[1], None)
        elif kind in ("column_ref", "boolean_test"):
            found = self._key(node if kind == "column_ref" else node.boolean_test.arg, scope)
            if found is not None:
                found[0].equal.setdefault(found[1], None)
        self._columns(node, scope, ctes)

    def _sublink(self, link: Any, scope: _Scope, ctes: dict[str, Any]) -> None:
        exists = link.sub_link_type == 1  # EXISTS_SUBLINK
        outputs = self.select(link.subselect.select_stmt, scope, ctes, exists=exists)
        if link.HasField("testexpr"):
            self._columns(link.testexpr, scope, ctes)
            outer = self._key(link.testexpr, scope)
            inner = next(iter(outputs.values()), None)
            if outer is not None:
                _add(outer[0].joined, outer[1])
            if inner is not None:
                _add(inner[0].joined, quote(inner[1]))

    def _comparison(self, expr: Any, scope: _Scope) -> None:
        from postgast import pg_query_pb2 as pb

        operator = expr.name[-1].string.sval if expr.name else ""
        between = expr.kind in (pb.AEXPR_BETWEEN, pb.AEXPR_BETWEEN_SYM)
        rows = [n for n in (expr.lexpr, expr.rexpr) if n.WhichOneof("node") == "row_expr"]
        if len(rows) == 2:
            self._rows(rows[0].row_expr.args, rows[1].row_expr.args, operator, scope)
            return
        left, right = self._key(expr.lexpr, scope), self._key(expr.rexpr, scope)
        if left is not None and right is not None:
            if operator == "=" and left[0] is not right[0]:
                for use, key in (left, right):
                    _add(use.joined, key)
            elif operator in RANGE and left[0] is not right[0]:
                for use, key in (left, right):
                    _add(use.ranged, key)
            return
        for side, found, other in ((0, left, expr.rexpr), (1, right, expr.lexpr)):
            if found is None:
                continue
            use, key = found
            constant = _constant(other)
            if expr.kind == pb.AEXPR_OP_ANY and side == 1:
                use.searched.append(("= any", key, constant))
            elif expr.kind in (pb.AEXPR_LIKE, pb.AEXPR_ILIKE) or operator in ("~", "~*"):
                if not operator.startswith("!"):
                    use.searched.append((operator, key, constant))
            elif between or operator in RANGE:
                _add(use.ranged, key)
            elif operator == "=":
                use.equal.setdefault(key, constant)
            elif operator in CONTAINMENT:
                use.searched.append((operator, key, constant))

    def _rows(self, left: Any, right: Any, operator: str, scope: _Scope) -> None:
        """(a, b) < ($1, $2): keyset pagination; an index serves it by a, and by (a, b) in full."""
        for one, other in zip(left, right, strict=False):
            for side, against in ((one, other), (other, one)):
                found = self._key(side, scope)
                if found is None or self._key(against, scope) is not None:
                    continue
                if operator == "=":
                    found[0].equal.setdefault(found[1], None)
                elif operator in RANGE:
                    _add(found[0].ranged, found[1])

    def _key(self, node: Any, scope: _Scope) -> tuple[Use, str] | None:
        """The use and the index key that an expression over columns of one table is; None when it is no such thing."""
        from postgast import find_nodes
        from postgast import pg_query_pb2 as pb

        kind = node.WhichOneof("node")
        if kind == "column_ref":
            fields = node.column_ref.fields
            if any(f.WhichOneof("node") != "string" for f in fields):
                return None
            found = scope.find([f.string.sval for f in fields])
            return (found[0], quote(found[1])) if found is not None else None
        if kind not in ("func_call", "a_expr", "type_cast", "coalesce_expr", "min_max_expr"):
            return None
        columns = list(find_nodes(node, pb.ColumnRef))
        if not columns or any(f.WhichOneof("node") != "string" for c in columns for f in c.fields):
            return None
        owners = [scope.find([f.string.sval for f in c.fields]) for c in columns]
        if owners[0] is None or any(o is None or o[0] is not owners[0][0] for o in owners):
            return None
        use = owners[0][0]
        if any(True for _ in find_nodes(node, pb.ParamRef)):
            use.obstacles.append("the expression compared has a parameter in it, so no index can hold it")
            return None
        if any(True for _ in find_nodes(node, pb.SubLink)):
            return None
        return use, f"({bare(node, {tuple(f.string.sval for f in c.fields): o[1] for c, o in zip(columns, owners, strict=True) if o})})"

    def _predicate(self, node: Any, scope: _Scope) -> None:
        """Remember a conjunct that could be the predicate of a partial index: constants only, one table."""
        from postgast import find_nodes
        from postgast import pg_query_pb2 as pb

        columns = list(find_nodes(node, pb.ColumnRef))
        if not columns or any(True for t in (pb.ParamRef, pb.SubLink, pb.FuncCall, pb.SQLValueFunction)
                              for _ in find_nodes(node, t)):  # fmt: skip
            return
        if any(f.WhichOneof("node") != "string" for c in columns for f in c.fields):
            return
        owners = [scope.find([f.string.sval for f in c.fields]) for c in columns]
        if owners[0] is None or any(o is None or o[0] is not owners[0][0] for o in owners):
            return
        names = {tuple(f.string.sval for f in c.fields): o[1] for c, o in zip(columns, owners, strict=True) if o}
        owners[0][0].predicates.setdefault(bare(node, names), tuple(quote(o[1]) for o in owners if o))

    # --- everything else -------------------------------------------------------------------------------------------

    def _columns(self, message: Any, scope: _Scope, ctes: dict[str, Any]) -> None:
        """Note every column that an expression needs; subqueries in it are read with their own scope."""
        from postgast import pg_query_pb2 as pb

        if isinstance(message, pb.SubLink):
            self._sublink(message, scope, ctes)
            return
        if isinstance(message, pb.ColumnRef):
            fields = message.fields
            if all(f.WhichOneof("node") == "string" for f in fields):
                found = scope.find([f.string.sval for f in fields])
                if found is not None:
                    found[0].count(found[1])
                elif len(fields) == 1:
                    for use in scope.uses.get(fields[0].string.sval, ()):
                        use.whole = True  # the row as a value
            return
        for descriptor, value in message.ListFields():
            if descriptor.message_type is not None:
                for item in value if descriptor.is_repeated else (value,):
                    self._columns(item, scope, ctes)


def pb_node(kind: str, message: Any) -> Any:
    """A message in its Node wrapper."""
    from postgast import pg_query_pb2 as pb

    node = pb.Node()
    getattr(node, kind).CopyFrom(message)
    return node


def bare(node: Any, names: dict[tuple[str, ...], str]) -> str:
    """An expression as SQL, its columns without qualifier and by the table's own names."""
    import postgast
    from postgast import pg_query_pb2 as pb

    tree = pb.ParseResult()
    target = tree.stmts.add().stmt.select_stmt.target_list.add()
    target.res_target.val.CopyFrom(node)
    for column in postgast.find_nodes(tree, pb.ColumnRef):
        own = names[tuple(f.string.sval for f in column.fields)]
        del column.fields[:]
        column.fields.add().string.sval = own
    return str(postgast.deparse(tree)).removeprefix("SELECT ").strip()


def _renamed(outputs: dict[str, Output], alias: Any) -> dict[str, Output]:
    names = [c.string.sval for c in alias.colnames]
    values = list(outputs.values())
    return {**dict(zip(names, values, strict=False)), **dict(list(outputs.items())[len(names) :])} if names else outputs


def _constant(node: Any) -> str | None:
    while node.WhichOneof("node") == "type_cast":
        node = node.type_cast.arg
    if node.WhichOneof("node") != "a_const":
        return None
    kind = node.a_const.WhichOneof("val")
    if kind == "sval":
        return str(node.a_const.sval.sval)
    if kind == "ival":
        return str(node.a_const.ival.ival)
    return str(node.a_const.fval.fval) if kind == "fval" else None


def _add(items: list[str], item: str) -> None:
    if item not in items:
        items.append(item)


def uses_of(tree: Any, snapshot: Snapshot) -> list[Use]:
    """The uses of every table in a parsed statement, in the order of the text."""
    reader = Reader(snapshot)
    reader.statement(tree.stmts[0].stmt)
    return reader.uses


def _returning(stmt: Any) -> list[Any]:
    """RETURNING's expressions (a clause of its own in the tree of PostgreSQL 18's parser, a list before)."""
    names = {f.name for f in stmt.DESCRIPTOR.fields}
    if "returning_clause" in names:
        return list(stmt.returning_clause.exprs)
    return list(stmt.returning_list)


def iter_keys(use: Use) -> Iterator[str]:
    """Every key that conditions name, once."""
    yield from dict.fromkeys([*use.equal, *use.joined, *use.ranged])
