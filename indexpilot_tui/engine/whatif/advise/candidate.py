"""A candidate index: what it is made of, as SQL that can be executed, and what it can be of use for."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from indexpilot_tui.engine.whatif.snapshot import Relation


def quote(*names: str) -> str:
    """An identifier, always quoted: raw names of the target are never pasted into SQL."""
    return sql.Identifier(*names).as_string(None)


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """`table` is the target's OID; `keys` are SQL of index keys in order (quoted column or expression in parentheses,
    without direction and operator class), `suffixes` what follows each of them (`DESC`, an operator class); `include`
    are quoted columns; `predicate` SQL or ''. `columns` are the plain column names that an index-only scan could return.
    """

    table: int
    method: str
    keys: tuple[str, ...]
    suffixes: tuple[str, ...]
    include: tuple[str, ...] = ()
    predicate: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """The conjuncts of the predicate."""
        if not self.predicate:
            return ()
        if self.predicate.startswith("(") and self.predicate.endswith(")") and ") AND (" in self.predicate:
            return tuple(self.predicate[1:-1].split(") AND ("))
        return (self.predicate,)

    @property
    def columns(self) -> frozenset[str]:
        """Quoted columns that the index holds; empty for methods that cannot return them."""
        return frozenset((*self.keys, *self.include)) if self.method == "btree" else frozenset()

    @property
    def key_text(self) -> str:
        return ", ".join(f"{k} {s}".strip() for k, s in zip(self.keys, self.suffixes, strict=True))

    def ddl(self, relation: Relation, *, name: str = "", concurrently: bool = False) -> str:
        """CREATE INDEX for the table; CONCURRENTLY is for tables in use, which a partitioned one does not support."""
        parts = ["CREATE INDEX"]
        if concurrently and relation.kind != "p":
            parts.append("CONCURRENTLY")
        if name:
            parts.append(quote(name))
        parts.append(f"ON {quote(relation.schema, relation.name)}")
        if self.method != "btree":
            parts.append(f"USING {self.method}")
        parts.append(f"({self.key_text})")
        if self.include:
            parts.append(f"INCLUDE ({', '.join(self.include)})")
        if self.predicate:
            parts.append(f"WHERE {self.predicate}")
        return " ".join(parts)


def btree(table: int, keys: tuple[str, ...], include: tuple[str, ...] = (), predicate: str = "") -> Candidate:
    """An ascending B-tree with default operator classes."""
    return Candidate(table, "btree", keys, ("",) * len(keys), include, predicate)
