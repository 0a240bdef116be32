"""Conditions of a statement, noted at the uses whose columns they compare."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from indexpilot_tui.engine.whatif.advise.candidate import quote
from indexpilot_tui.engine.whatif.advise.scope import Output, Scope, Use
from indexpilot_tui.engine.whatif.advise.trees import NOT_EXPR, add, bare, constant_of, factored

RANGE = {"<", "<=", ">", ">=", "~<~", "~<=~", "~>~", "~>=~"}
CONTAINMENT = {"@>", "<@", "&&", "?", "?|", "?&", "@@", "@?", "-|-"}


class Conditions(ABC):
    """Reads expressions; a subquery in one is read by `select`."""

    @abstractmethod
    def select(self, stmt: Any, outer: Scope | None, ctes: dict[str, Any], *, exists: bool = False) -> dict[str, Output]:
        """Read a SELECT; returns its output columns by name."""

    def _condition(self, node: Any, scope: Scope, ctes: dict[str, Any], *, top: bool) -> None:
        kind = node.WhichOneof("node")
        if kind == "bool_expr":
            if node.bool_expr.boolop == NOT_EXPR and top:
                self._predicate(node, scope)
            shared, rest = factored(node, lambda part: self._identity(part, scope), top=top)
            for arg in shared:
                self._condition(arg, scope, ctes, top=top)
            for arg in rest:
                self._condition(arg, scope, ctes, top=False)
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

    def _sublink(self, link: Any, scope: Scope, ctes: dict[str, Any]) -> None:
        exists = link.sub_link_type == 1  # EXISTS_SUBLINK
        outputs = self.select(link.subselect.select_stmt, scope, ctes, exists=exists)
        if link.HasField("testexpr"):
            self._columns(link.testexpr, scope, ctes)
            outer = self._key(link.testexpr, scope)
            inner = next(iter(outputs.values()), None)
            if outer is not None:
                add(outer[0].joined, outer[1])
            if inner is not None:
                add(inner[0].joined, quote(inner[1]))

    def _comparison(self, expr: Any, scope: Scope) -> None:
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
                    add(use.joined, key)
            elif operator in RANGE and left[0] is not right[0]:
                for use, key in (left, right):
                    add(use.ranged, key)
            return
        for side, found, other in ((0, left, expr.rexpr), (1, right, expr.lexpr)):
            if found is None:
                continue
            use, key = found
            constant = constant_of(other)
            if expr.kind == pb.AEXPR_OP_ANY and side == 1:
                use.searched.append(("= any", key, constant))
            elif expr.kind in (pb.AEXPR_LIKE, pb.AEXPR_ILIKE) or operator in ("~", "~*"):
                if not operator.startswith("!"):
                    use.searched.append((operator, key, constant))
            elif between or operator in RANGE:
                add(use.ranged, key)
            elif operator == "=":
                use.equal.setdefault(key, constant)
            elif operator in CONTAINMENT:
                use.searched.append((operator, key, constant))

    def _rows(self, left: Any, right: Any, operator: str, scope: Scope) -> None:
        """(a, b) < ($1, $2): keyset pagination; an index serves it by a, and by (a, b) in full."""
        for one, other in zip(left, right, strict=False):
            for side, against in ((one, other), (other, one)):
                found = self._key(side, scope)
                if found is None or self._key(against, scope) is not None:
                    continue
                if operator == "=":
                    found[0].equal.setdefault(found[1], None)
                elif operator in RANGE:
                    add(found[0].ranged, found[1])

    def _key(self, node: Any, scope: Scope) -> tuple[Use, str] | None:
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
        names = {tuple(f.string.sval for f in c.fields): o[1] for c, o in zip(columns, owners, strict=True) if o}
        return use, f"({bare(node, names)})"

    def _identity(self, node: Any, scope: Scope) -> str:
        """An expression as SQL in which every column is named by its use, however it is qualified."""
        from postgast import find_nodes
        from postgast import pg_query_pb2 as pb

        names = {}
        foreign = any(True for _ in find_nodes(node, pb.SubLink))  # has a scope of its own
        for column in find_nodes(node, pb.ColumnRef):
            parts = tuple(f.string.sval for f in column.fields)  # '' for the star of a whole row
            found = scope.find(list(parts)) if all(parts) and not foreign else None
            names[parts] = f"{id(found[0])} {found[1]}" if found is not None else ".".join(map(quote, parts))
        return bare(node, names)

    def _predicate(self, node: Any, scope: Scope) -> None:
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

    def _columns(self, message: Any, scope: Scope, ctes: dict[str, Any]) -> None:
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
