"""Where columns belong: one `Use` for each place where a table stands in a statement, and the scopes that names are
looked up in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from indexpilot_tui.engine.whatif.advise.candidate import quote
from indexpilot_tui.engine.whatif.snapshot import Relation


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
    sorts: list[tuple[tuple[str, bool, int], ...]] = field(default_factory=list)  # key, descending, nulls (1 first, 2 last)
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


class Scope:
    def __init__(self, outer: Scope | None) -> None:
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


def iter_keys(use: Use) -> Iterator[str]:
    """Every key that conditions name, once."""
    yield from dict.fromkeys([*use.equal, *use.joined, *use.ranged])
