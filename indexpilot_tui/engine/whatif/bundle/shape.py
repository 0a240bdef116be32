"""What the answers in a file have to look like before anything is made of them: a bundle may come from anywhere.

Texts are not judged here: the shadow runs every one of them as a role without powers, as it does with a live target's.
"""

from __future__ import annotations

import math
from typing import Any

from indexpilot_tui.engine.whatif.bundle.model import Row
from indexpilot_tui.engine.whatif.planner_settings import ALLOWED

# i integer, f number, s text, b boolean, l list, y bytes; a capital letter may be null
_REQUIRED: dict[str, dict[str, str]] = {
    "bundle/names": {"oid": "i", "schema": "s", "name": "s", "kind": "s"},
    "bundle/edges": {"kind": "s", "from": "i", "to": "i"},
    "bundle/foreign_keys": {"table_oid": "i", "name": "s", "references": "i"},
    "bundle/type_edges": {"from": "i", "to": "i"},
    "whatif/index_facts": {"oid": "i", "table_oid": "i", "valid": "b", "is_unique": "b", "constraint_name": "S"},
    "whatif/server": {"collate": "s", "encoding": "s", "search_path": "s", "block_size": "i", "maintenance_work_mem": "i",
                      "extensions": "l", "extension_schemas": "l"},
    "whatif/settings": {"name": "s", "setting": "s"},
    "whatif/relations": {"oid": "i", "schema": "s", "name": "s", "kind": "s", "relpages": "i", "reltuples": "f",
                         "relallvisible": "i", "reloptions": "L", "is_partition": "b", "bound": "S", "part_key": "S",
                         "view": "S", "parents": "l", "row_security": "b"},
    "whatif/columns": {"oid": "i", "number": "i", "name": "s", "type": "s", "type_oid": "i", "not_null": "b",
                       "dropped": "b", "generated": "s", "expression": "S"},
    "whatif/indexes": {"oid": "i", "table_oid": "i", "schema": "s", "name": "s", "kind": "s", "method": "s",
                       "definition": "s", "relpages": "i", "reltuples": "f", "key_columns": "i", "columns": "l",
                       "parent": "I"},
    "whatif/constraints": {"table_oid": "i", "name": "s", "kind": "s", "definition": "s"},
    "whatif/extended": {"oid": "i", "table_oid": "i", "schema": "s", "name": "s", "definition": "s", "inherited": "b",
                        "ndistinct": "Y", "dependencies": "Y"},
    "whatif/types": {"oid": "i", "schema": "s", "name": "s", "kind": "s", "labels": "l"},
    "whatif/stats": {"schema": "s", "relation": "s", "column": "s", "inherited": "b", "null_frac": "S", "avg_width": "I",
                     "n_distinct": "F", "mcv": "S", "mcf": "S", "histogram": "S", "correlation": "S",
                     "mce": "S", "mcef": "S", "elem_counts": "S"},
    "whatif/functions": {"oid": "i", "schema": "s", "name": "s", "language": "s", "volatility": "s", "strict": "b",
                         "cost": "f", "rows": "f", "parallel": "s", "returns_set": "b", "arguments": "s", "identity": "s",
                         "result": "s", "definition": "S", "body": "S"},
    "whatif/sizes": {"oid": "i", "pages": "I"},
    "whatif/statements": {"key": "s", "query": "S", "calls": "f", "total_ms": "F"},
}  # fmt: skip
_REQUIRED["whatif/stats_reader"] = _REQUIRED["whatif/stats"]
_NEEDED = ("bundle/names", "bundle/edges", "whatif/server", "whatif/settings", "whatif/relations", "whatif/columns")
_KINDS: dict[str, tuple[type, ...]] = {
    "i": (int,), "f": (int, float), "s": (str,), "b": (bool,), "l": (list,), "y": (bytes,),
}  # fmt: skip
_NUMBERS = ("null_frac", "correlation", "mcf", "mcef", "elem_counts")  # texts of numbers, or of arrays of them
MAX_PAGES = 2**32  # MaxBlockNumber: a table has no more


def check_answers(answers: dict[str, list[Row]]) -> None:
    """Raises ValueError for a missing answer or a value of the wrong kind. Settings that a plan does not depend on go."""
    missing = [name for name in _NEEDED if name not in answers]
    if missing or len(answers["whatif/server"]) != 1:
        raise ValueError(f"no answer to {', '.join(missing) or 'whatif/server'}")
    for question, fields in _REQUIRED.items():
        for row in answers.get(question, []):
            for name, kind in fields.items():
                if name not in row or not _fits(row[name], kind):
                    raise ValueError(f"{question}: {name} is {str(row.get(name, 'missing'))[:60]!r}")
    for row in answers.get("whatif/sizes", []):
        if row["pages"] is not None and not 0 <= row["pages"] <= MAX_PAGES:
            raise ValueError(f"whatif/sizes: {row['pages']} pages")
    for row in answers["whatif/relations"]:
        if not -1 <= row["relpages"] <= MAX_PAGES:  # -1: a partitioned table, from 18 on
            raise ValueError(f"whatif/relations: {row['relpages']} pages")
    for row in [r for q in ("whatif/stats", "whatif/stats_reader") for r in answers.get(q, [])]:
        for name in _NUMBERS:
            for text in (row.get(name) or "").strip("{}").split(","):
                if text and not math.isfinite(float(text)):
                    raise ValueError(f"statistics: {name} has {text!r}")
    answers["whatif/settings"] = [r for r in answers["whatif/settings"] if r["name"] in ALLOWED]


def _fits(value: Any, kind: str) -> bool:
    if value is None:
        return kind.isupper()
    kinds = _KINDS[kind.lower()]
    if isinstance(value, bool) and bool not in kinds:
        return False
    return isinstance(value, kinds)
