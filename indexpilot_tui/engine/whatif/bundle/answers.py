"""A bundle's answer to one question with its parameters: what the server's SQL would have picked from the rows. Pure.

A question with `oids` gets the rows of those objects; the few that walk (partitions, views, types, names) walk here, over
the edges that were captured with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from indexpilot_tui.engine.whatif.bundle.model import Bundle, Row
from indexpilot_tui.errors import UsageError

Params = Mapping[str, Any]


def answer(bundle: Bundle, question: str, params: Params, holes: Mapping[str, str]) -> list[Row]:
    """The rows. Raises UsageError for a question that the capture did not ask."""
    special = _SPECIAL.get(question)
    if special is not None:
        return special(bundle, params)
    rows = bundle.answers.get(question)
    if rows is None:
        raise not_there(bundle, question)
    if "schemas" in params and "names" in params:
        return _of_relations(bundle, question, params)
    if "oids" in params:
        return bundle.pick(question, _key(rows), sorted(params["oids"]))
    if "limit" in holes and holes["limit"].isdigit():
        return rows[: int(holes["limit"])]
    return rows


def not_there(bundle: Bundle, question: str) -> UsageError:
    return UsageError(
        f"the bundle has no answer to {question}", field="bundle", value=bundle.name,
        remedy="capture again with this version, or give a TARGET in its place",
    )  # fmt: skip


def _key(rows: list[Row]) -> str:
    """Whose row it is: of the table where it names one, else of the object."""
    return "table_oid" if rows and "table_oid" in rows[0] else "oid"


def _walk(seeds: Iterable[int], neighbours: Callable[[int], Iterable[int]]) -> set[int]:
    found: set[int] = set()
    left = list(seeds)
    while left:
        oid = left.pop()
        if oid not in found:
            found.add(oid)
            left.extend(n for n in neighbours(oid) if n not in found)
    return found


def _edges(bundle: Bundle, kind: str, oid: int, *, up: bool) -> list[int]:
    """Where the edges of a kind lead from here (`up`), or from where they come."""
    start, end = ("from", "to") if up else ("to", "from")
    return [r[end] for r in bundle.grouped("bundle/edges", start).get(oid, ()) if r["kind"] == kind]


def _relations(bundle: Bundle, params: Params) -> list[Row]:
    """relations.sql: with partitions, parents, and what views read, all the way down."""

    def near(oid: int) -> list[int]:
        return [
            *_edges(bundle, "i", oid, up=False), *_edges(bundle, "i", oid, up=True), *_edges(bundle, "v", oid, up=True)
        ]  # fmt: skip

    return bundle.pick("whatif/relations", "oid", sorted(_walk(params["oids"], near)))


def _dependents(bundle: Bundle, params: Params) -> list[Row]:
    """dependents.sql: partition parents and children, and views over them."""

    def near(oid: int) -> list[int]:
        return [
            *_edges(bundle, "i", oid, up=False), *_edges(bundle, "i", oid, up=True), *_edges(bundle, "v", oid, up=False)
        ]  # fmt: skip

    return [{"oid": oid} for oid in sorted(_walk([params["oid"]], near))]


def _resolve(bundle: Bundle, params: Params) -> list[Row]:
    """resolve.sql: one row for every relation of a name."""
    found: list[Row] = []
    for ord_, (schema, name) in enumerate(zip(params["schemas"], params["names"], strict=True), 1):
        matches = bundle.grouped("bundle/names", "name").get(name, ())
        found += [{"ord": ord_, **r} for r in matches if schema in ("", r["schema"])]
    return found


def _constraints(bundle: Bundle, params: Params) -> list[Row]:
    """constraints.sql: a foreign key only where the table that it refers to is among them."""
    wanted = set(params["oids"])
    far = {
        (r["table_oid"], r["name"])
        for r in bundle.pick("bundle/foreign_keys", "table_oid", wanted)
        if r["references"] not in wanted
    }
    rows = bundle.pick("whatif/constraints", "table_oid", sorted(wanted))
    return [r for r in rows if (r["table_oid"], r["name"]) not in far]


def _of_relations(bundle: Bundle, question: str, params: Params) -> list[Row]:
    """stats.sql and its like: the statistics of some relations, by schema and name."""
    schemas = set(params["schemas"])
    rows = bundle.pick(question, "relation", sorted(set(params["names"])))
    return sorted(
        (r for r in rows if r["schema"] in schemas), key=lambda r: (r["schema"], r["relation"], r["column"], r["inherited"])
    )


def _types(bundle: Bundle, params: Params) -> list[Row]:
    edges = bundle.grouped("bundle/type_edges", "from")
    reached = _walk(params["types"], lambda oid: [r["to"] for r in edges.get(oid, ())])
    return bundle.pick("whatif/types", "oid", sorted(reached))


def _index_table(bundle: Bundle, params: Params) -> list[Row]:
    return bundle.pick("whatif/index_facts", "oid", [params["oid"]])


def _index_facts(bundle: Bundle, params: Params) -> list[Row]:
    return bundle.pick("whatif/index_facts", "oid", sorted(params["oids"]))


def _extension_schema(bundle: Bundle, params: Params) -> list[Row]:
    """Of an extension whose rows the capture could read as well, so that nobody is sent to install what is there."""
    server = bundle.answers["whatif/server"][0]
    if params["extension"] == "hypopg":
        return []  # it plans on its server, and there is none
    where = dict(zip(server["extensions"], server["extension_schemas"], strict=True)).get(params["extension"])
    if params["extension"] == "pg_stat_statements":  # its rows are there, whether the server or a file gave them
        return [{"schema": where or "public"}] if "whatif/statements" in bundle.answers else []
    return [{"schema": where}] if where is not None else []


def _references(bundle: Bundle, params: Params) -> list[Row]:
    """The advisor's references.sql: foreign keys by the table that they point at."""
    if "advise/references" not in bundle.answers:
        raise not_there(bundle, "advise/references")
    return bundle.pick("advise/references", "parent", sorted(params["oids"]))


def _advise_facts(bundle: Bundle, params: Params) -> list[Row]:
    """The advisor's index_facts.sql, from what the capture asks about every index anyway."""
    window = bundle.answers["whatif/usage_window"][0]
    at, since = window["at"], window["stats_since"]
    age = (at - since).total_seconds() if isinstance(at, datetime) and isinstance(since, datetime) else None
    keys = bundle.grouped("whatif/key_tables", "table_oid")
    return [
        {
            "oid": r["oid"], "is_unique": r["is_unique"], "replica_identity": r["replica_identity"],
            "clustered": r["clustered"], "exclusion": r["constraint_kind"] == "x",
            "constrained": r["constraint_name"] is not None or r["foreign_keys"] > 0, "of_partition": r["of_partition"],
            "serves_foreign_key": any(r["columns"][0] in k["columns"] for k in keys.get(r["table_oid"], ())),
            "scans": r["scans"], "window_s": age,
        }
        for r in bundle.pick("whatif/index_facts", "oid", sorted(params["oids"]))
    ]  # fmt: skip


_SPECIAL: dict[str, Callable[[Bundle, Params], list[Row]]] = {
    "whatif/relations": _relations,
    "whatif/dependents": _dependents,
    "whatif/resolve": _resolve,
    "whatif/constraints": _constraints,
    "whatif/types": _types,
    "whatif/index_table": _index_table,
    "whatif/index_facts": _index_facts,
    "whatif/extension_schema": _extension_schema,
    "whatif/functions": lambda bundle, params: bundle.pick("whatif/functions", "name", sorted(params["names"])),
    "whatif/observed": lambda _bundle, _params: [],  # nothing runs in a file
    "whatif/quals": lambda _bundle, _params: [],  # and values of rows are not kept in one
    "advise/seen_conditions": lambda _bundle, _params: [],
    "advise/references": _references,
    "advise/index_facts": _advise_facts,
}
