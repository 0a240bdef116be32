"""Every row that an executor or a console writes into the log has a name that the control schema takes, and no other has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.unit.test_architecture import ROOT

SETUP = ROOT / "indexpilot_tui" / "engine" / "journal" / "sql" / "setup" / "40_helpers.sql"
# methods that write a row, and which of their arguments is its action
WRITERS = {"note": 0, "append": (0, 2), "later": 0, "protective": 0, "advance": (1, 4)}
MADE_OF = {"action": ("analyze", "restore"), "how": ("cancel", "terminate"), "name": ()}  # f"{action}.intent" and the like


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        first, last = node.values[0], node.values[-1]
        if isinstance(first, ast.FormattedValue) and isinstance(first.value, ast.Name) and isinstance(last, ast.Constant):
            for word in MADE_OF[first.value.id]:
                yield f"{word}{last.value}"


def _written() -> set[str]:
    found: set[str] = {"kept", "rehearsed", "requeued"}  # by a name of its own, or handed on
    for path in (ROOT / "indexpilot_tui" / "engine").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WRITERS):
                continue
            owner = ast.unparse(node.func.value)
            if not re.search(r"\bhold\b|\bjournal\b", owner):
                continue
            at = WRITERS[node.func.attr]
            for position in at if isinstance(at, tuple) else (at,):
                if position < len(node.args):
                    found |= {t for t in _texts(node.args[position]) if re.fullmatch(r"[a-z][a-z_.]+", t)}
    return found


def test_the_control_schema_takes_what_is_written_and_nothing_else() -> None:
    listed = re.search(r"p_action <> ALL \(ARRAY\[(.*?)\]\)", SETUP.read_text(), re.DOTALL)
    assert listed is not None
    taken = set(re.findall(r"'([a-z_.]+)'", listed[1]))
    written = _written()
    assert written - taken == set(), "written, and the control schema would refuse it"
    assert taken - written == set(), "taken, and nobody writes it"
