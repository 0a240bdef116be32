"""How much of an index is air. Two methods, told apart: the size that a rebuild would give, modelled from the statistics
as for a forecast, against the size that is there; and pgstattuple, which counts, where it is installed and somebody asks
for it.

This stands above both rooms: the facts are of `observe`, the size model is of `whatif`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import sql

from indexpilot_tui.engine.observe.ask import PACKAGE, Asker, Question, Refusal, question
from indexpilot_tui.engine.observe.indexes.bloat import Bloat
from indexpilot_tui.engine.observe.indexes.facts import IndexFacts
from indexpilot_tui.engine.observe.model import IndexDetail
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.engine.postgres.text import clean, clean_line

# of a size from statistics that are fresh: 83 kinds of index, built, were within 1.15 times (tests/bench/sizes.py)
MODEL_ERROR = 0.15
MODELLED, COUNTED = "modelled from the statistics", "counted by pgstattuple"
PAGE = 8192


async def modelled(session: Session, indexes: Sequence[IndexFacts]) -> dict[int, Bloat]:
    """An estimate for each of some B-trees, with its error; where there can be none, the reason."""
    from indexpilot_tui.engine.whatif.read import read_snapshot

    found: dict[int, Bloat] = {f.oid: _not_for(f) for f in indexes if _not_for(f).reason}
    wanted = [f for f in indexes if f.oid not in found]
    if not wanted:
        return found
    snapshot = await read_snapshot(session, (), also={f.table_oid for f in wanted})
    rows = await session.rows(
        load(PACKAGE, "index_columns", session.facts.server_version), {"oids": [f.oid for f in wanted]}
    )
    columns: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        columns.setdefault(row["oid"], []).append(row)
    for index in wanted:
        found[index.oid] = _model(index, columns.get(index.oid, []), snapshot)
    return found


def _not_for(index: IndexFacts) -> Bloat:
    if index.method != "btree":
        return Bloat("", reason=f"no smaller size a row was seen of this {clean_line(index.method)} index")
    if index.partitioned or not index.usable:
        return Bloat("", reason="it is not one index that is in use")
    if not index.size_bytes or index.rows < 0:
        return Bloat("", reason="its size or its rows are not known (VACUUM or ANALYZE counts them)")
    return Bloat("")


def _model(index: IndexFacts, columns: Sequence[Mapping[str, Any]], snapshot: Any) -> Bloat:
    from indexpilot_tui.engine.whatif.distinct import joint
    from indexpilot_tui.engine.whatif.made import Attribute
    from indexpilot_tui.engine.whatif.shape import key_column
    from indexpilot_tui.engine.whatif.sizes import IndexShape, estimate

    relation = snapshot.relations.get(index.table_oid)
    if relation is None or not columns:
        return Bloat("", reason="its table could not be read")
    names = {c.number: c.name for c in relation.columns}
    rows = max(1.0, snapshot.rows(index.table_oid))
    parts = []
    for row in columns:
        attribute = Attribute(
            row["number"], row["column"], row["type"], row["type_oid"], row["length"], row["align"], row["typmod"], ""
        )
        stats = (
            snapshot.column_stats(relation, names[row["column"]]) if row["column"] in names else _own(index, row, snapshot)
        )
        if stats is None:
            what = clean_line(names.get(row["column"], "an expression"), 80)
            hidden = not snapshot.activity[index.table_oid].readable
            why = "hidden from this role: GRANT pg_read_all_data" if hidden else "missing: ANALYZE the table"
            return Bloat("", reason=f"the statistics of {what} are {why}")
        parts.append(key_column(attribute, stats, rows))
    first = columns[0]
    options = dict(option.split("=", 1) for option in first["options"].split(",") if "=" in option)
    together = joint(snapshot, relation, [row["column"] for row in columns[: first["key_columns"]]], rows)
    shape = IndexShape(
        method="btree",
        rows=first["rows"],
        keys=tuple(parts[: first["key_columns"]]),
        included=tuple(parts[first["key_columns"] :]),
        unique=index.unique,
        deduplicate=bool(first["equal_image"]) and options.get("deduplicate_items", "on") in ("on", "true", "1", "yes"),
        fill=int(options["fillfactor"]) if "fillfactor" in options else None,
        share=min(1.0, first["rows"] / rows),
        joint=together.distinct,
        joint_basis=together.basis,
        between=together.between,
    )
    return Bloat(MODELLED, index.size_bytes, estimate(shape).pages * PAGE, error=MODEL_ERROR)


def _own(index: IndexFacts, row: Mapping[str, Any], snapshot: Any) -> Any:
    """Statistics of an expression stand under the index's own name."""
    return next(
        (s for s in snapshot.stats if (s.schema, s.relation, s.column) == (index.schema, index.name, row["name"])), None
    )


async def detail(session: Session, index: IndexFacts, *, count: bool) -> tuple[IndexDetail, Bloat]:
    """Definition and bloat of one index."""
    rows = await session.rows(load(PACKAGE, "index_definition", session.facts.server_version), {"oid": index.oid})
    definition = rows[0]["definition"] if rows else None
    bloat = await counted(session, index) if count else (await modelled(session, [index]))[index.oid]
    shown = clean(definition) if definition else "its table is locked exclusively now, so the definition is not read"
    return IndexDetail(index.oid, shown, bloat.in_words()), bloat


async def counted(session: Session, index: IndexFacts) -> Bloat:
    """What pgstattuple counts, reading all of the index. In the way, with the remedy: no extension, no right, too slow."""
    if index.method != "btree":
        return Bloat(COUNTED, reason="pgstattuple counts the leaves of B-trees only")
    asker = Asker()
    home = (await asker.ask(session, [question("pgstattuple_home", session.facts.server_version)]))["pgstattuple_home"]
    if isinstance(home, Refusal):
        return Bloat(COUNTED, reason=str(home))
    if not home:
        return Bloat(COUNTED, reason="the extension pgstattuple is not in this database: CREATE EXTENSION pgstattuple")
    if not (home[0]["visible"] and home[0]["allowed"]):
        role = clean_line(sql.Identifier(session.facts.session_user).as_string())
        return Bloat(COUNTED, reason=f"this role may not use it: GRANT pg_stat_scan_tables TO {role}")
    text = sql.SQL(load(PACKAGE, "pgstatindex", 0)).format(schema=sql.Identifier(home[0]["schema"]))  # our own .sql file
    answer = (await asker.ask(session, [Question("pgstatindex", text, {"oid": index.oid})]))["pgstatindex"]
    if isinstance(answer, Refusal):
        return Bloat(COUNTED, reason=f"{answer.reason}: it reads the whole index")
    row = answer[0]
    fill = next((int(part[11:]) for part in index.reloptions.split(", ") if part.startswith("fillfactor=")), 90)
    density = row["avg_leaf_density"] if row["leaf_pages"] else float(fill)
    leaves = max(1, round(row["leaf_pages"] * density / fill))
    return Bloat(COUNTED, row["index_size"], min(row["index_size"], (1 + row["internal_pages"] + leaves) * PAGE))
