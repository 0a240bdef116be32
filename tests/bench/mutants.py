"""The mutants of a module: cosmic-ray's operators on what decides. Comparisons become their neighbour (a limit off by one)
and their opposite, `and` becomes `or` and the reverse, conditions are negated, numbers in comparisons and in a module's
constants go up and down by one."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

COMPARISONS = {
    "Lt": ("LtE", "GtE"), "LtE": ("Lt", "Gt"), "Gt": ("GtE", "LtE"), "GtE": ("Gt", "Lt"),
    "Eq": ("NotEq",), "NotEq": ("Eq",), "Is": ("IsNot",), "IsNot": ("Is",),
}  # fmt: skip
OPERATORS = (
    *(f"core/ReplaceComparisonOperator_{old}_{new}" for old, news in COMPARISONS.items() for new in news),
    "core/ReplaceAndWithOr",
    "core/ReplaceOrWithAnd",
    "core/AddNot",
    "core/ReplaceUnaryOperator_Delete_Not",
    "core/NumberReplacer",
)


@dataclass(frozen=True)
class Mutant:
    """One change of one module. It is known by its function and its statement before and after, not by its line."""

    module: str  # path from the root of the repository
    function: str  # "" at the module's level
    line: int
    lines: tuple[int, int]  # of the statement it stands in
    before: str
    after: str
    source: str  # the whole module, mutated

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.module, self.function, self.before, self.after


def mutants(root: Path, module: str) -> list[Mutant]:
    """All mutants of a module, no two alike. Where a line stands twice in a function, the second has a number."""
    seen: Counter[tuple[str, ...]] = Counter()
    found = []
    for one in {one.source: one for one in _all(root, module)}.values():
        seen[one.key] += 1
        found.append(one if seen[one.key] == 1 else replace(one, after=f"{one.after} ({seen[one.key]})"))
    return found


def _all(root: Path, module: str) -> Iterator[Mutant]:
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (root / module).read_text()
    places = Places(source)
    for name in OPERATORS:
        operator = get_operator(name)()
        spots = [spot for node in ast_nodes(get_ast(source)) for spot in operator.mutation_positions(node)]
        for occurrence, ((line, column), _) in enumerate(spots):
            if name.endswith("NumberReplacer") and not places.limit(line, column):
                continue
            changed = mutate_code(source, operator, occurrence)
            if changed is None or ast.dump(ast.parse(changed)) == ast.dump(places.tree):
                continue
            first, last = places.statement(line)
            if source.splitlines()[line - 1].startswith(("if TYPE_CHECKING", "if __name__")):
                continue  # of a type checker, and of a process of its own
            yield Mutant(
                module,
                places.function(line, column),
                line,
                (first, last),
                *_difference(source, changed, first, last),
                changed,
            )


def _difference(source: str, changed: str, first: int, last: int) -> tuple[str, str]:
    """The line of the statement that differs, before and after; the number of lines never changes."""
    old, new = source.splitlines(), changed.splitlines()
    if len(old) != len(new):
        raise AssertionError("a mutant with another number of lines")
    at = [i for i in range(len(old)) if old[i] != new[i]]
    if len(at) != 1 or not first <= at[0] + 1 <= last:
        raise AssertionError(f"a mutant that differs in lines {at}, expected within {first} to {last}")
    return _bare(old[at[0]]), _bare(new[at[0]])


def _bare(line: str) -> str:
    """Without indentation and comment."""
    return " ".join(re.sub(r"\s# .*", "", line).split())


class Places:
    """Where a position of a module is."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)

    def function(self, line: int, column: int) -> str:
        """The function whose body has this place, with its class; "" when it runs as the module is imported."""
        names: list[str] = []
        node: ast.AST = self.tree
        inside = False
        while True:
            for child in ast.iter_child_nodes(node):
                if _holds(child, line, column):
                    node = child
                    break
            else:
                return ".".join(names) if inside else ""
            if isinstance(node, ast.ClassDef):
                names.append(node.name)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                if line < node.body[0].lineno:
                    return ".".join(names) if inside else ""
                names.append(node.name)
                inside = True

    def statement(self, line: int) -> tuple[int, int]:
        """The lines of the statement here; of a compound one those of its head."""
        found = (line, line)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.stmt):
                body = getattr(node, "body", None)
                end = body[0].lineno - 1 if isinstance(body, list) and body else node.end_lineno or node.lineno
                if node.lineno <= line <= max(end, node.lineno):
                    found = (node.lineno, max(end, node.lineno))
        return found

    def limit(self, line: int, column: int) -> bool:
        """Whether the number here is compared with something, or is in a constant of the module."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Compare) and _holds(node, line, column):
                return True
        return any(isinstance(node, ast.Assign) and _holds(node, line, column) for node in self.tree.body)


def _holds(node: ast.AST, line: int, column: int) -> bool:
    start, end = getattr(node, "lineno", None), getattr(node, "end_lineno", None)
    if start is None or end is None:
        return False
    first = min([start, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return (first, getattr(node, "col_offset", 0)) <= (line, column) < (end, getattr(node, "end_col_offset", 0)) or (
        first < start and first <= line < start
    )
