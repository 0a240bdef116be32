"""What an index costs the writers of its table, in planner cost units: EXPLAIN of an INSERT or UPDATE leaves that out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from indexpilot_tui.engine.whatif import hollow
from indexpilot_tui.engine.whatif.advise.candidate import quote
from indexpilot_tui.engine.whatif.advise.pool import Entry
from indexpilot_tui.engine.whatif.plan import Plan, nodes
from indexpilot_tui.engine.whatif.shape import mean_key_width
from indexpilot_tui.engine.whatif.snapshot import Snapshot
from indexpilot_tui.engine.whatif.statements import Parsed

PAGE_CPU = 50  # DEFAULT_PAGE_CPU_MULTIPLIER, selfuncs.c: what btcostestimate charges for a page of a descent
GIN_PENDING = 0.5  # entries of the pending list are merged in bulk: half of the random work (an assumption, not measured)
DEFAULTS = {"cpu_operator_cost": 0.0025, "cpu_index_tuple_cost": 0.005, "seq_page_cost": 1.0}


@dataclass(frozen=True, slots=True)
class Writer:
    """A statement that writes a table: `rows` a call, `columns` what an UPDATE sets (quoted)."""

    key: str
    kind: str
    table: int
    calls: float
    rows: float
    columns: frozenset[str]
    cost: float


def written_rows(plan: Plan) -> float:
    """Rows that a ModifyTable node writes, by its child's estimate."""
    for node in nodes(plan):
        if node.get("Node Type") == "ModifyTable":
            return max(1.0, sum(float(c["Plan Rows"]) for c in node.get("Plans", ())[:1]))
    return 0.0


def writers(parsed: Iterable[Parsed], plans: Mapping[str, Plan], snapshot: Snapshot) -> list[Writer]:
    """The writing statements of a workload."""
    found = []
    for p in parsed:
        plan = plans.get(p.statement.key)
        table = snapshot.resolved.get(p.target) if p.target is not None else None
        if plan is None or table is None or p.kind == "select":
            continue
        columns = frozenset(quote(c) for c in p.writes)
        cost = float(plan["Total Cost"])
        found.append(Writer(p.statement.key, p.kind, table, p.statement.calls, written_rows(plan), columns, cost))
    return found


def entry_cost(entry: Entry, settings: Mapping[str, float]) -> float:
    """One new index entry: a descent as btcostestimate prices it, one index tuple, and one page that gets dirty and is
    written once (seq_page_cost). GIN has an entry for each element of the value; BRIN summarises a range at a time."""
    method = entry.candidate.method
    if method == "brin":
        return settings["cpu_index_tuple_cost"]
    pages = max(1, entry.size // 8192)
    height = hollow.btree_height(pages, mean_key_width(entry.shape))
    one = (height + 1) * PAGE_CPU * settings["cpu_operator_cost"] + settings["cpu_index_tuple_cost"]
    one += settings["seq_page_cost"]
    if method == "gin":
        return one * GIN_PENDING * max(1.0, sum(k.elements for k in entry.shape.keys))
    return one


def upkeep(entry: Entry, all_writers: Sequence[Writer], blocked: frozenset[str], snapshot: Snapshot) -> float:
    """What the workload's writes cost more with this index, all calls together.

    `blocked`: quoted columns that indexes of the table hold already. An UPDATE that sets one of them writes every index; one
    that sets none is HOT and writes none, unless it sets a column of the new index: then it writes that, and the others.
    A DELETE leaves index entries to VACUUM.
    """
    settings = {n: float(dict(snapshot.server.settings).get(n, v)) for n, v in DEFAULTS.items()}
    candidate = entry.candidate
    each = entry_cost(entry, settings)
    others = sum(1 for i in snapshot.indexes.values() if i.table_oid == candidate.table)
    total = snapshot.rows(candidate.table)
    share = min(1.0, entry.shape.rows / total) if candidate.predicate and total > 0 else 1.0
    text = " ".join((*candidate.keys, *candidate.include, candidate.predicate))
    cost = 0.0
    for w in all_writers:
        if w.table != candidate.table and w.table not in _members(snapshot, candidate.table):
            continue
        if w.kind in ("insert", "merge"):
            cost += w.calls * w.rows * each * share
        elif w.kind == "update":
            touches = any(c in text or c.strip('"') in text for c in w.columns)
            if w.columns & blocked:
                cost += w.calls * w.rows * each * share
            elif touches:
                cost += w.calls * w.rows * each * (share + others)
    return cost


def _members(snapshot: Snapshot, table: int) -> set[int]:
    return {r.oid for r in snapshot.relations.values() if table in r.parents}
