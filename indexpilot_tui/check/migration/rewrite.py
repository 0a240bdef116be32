"""Index statements written otherwise: for a forecast, or as they should be in the file; and forecasts as plain data."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from indexpilot_tui.engine.whatif.drop_model import DropForecast


def counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def quoted(parts: Sequence[str]) -> str:
    from psycopg import sql

    return sql.Identifier(*parts).as_string(None)


def _deparse(node: Any) -> str:
    import postgast
    from postgast import pg_query_pb2 as pb

    tree = pb.ParseResult()
    tree.stmts.add().stmt.CopyFrom(node)
    return str(postgast.deparse(tree)).strip()


def concurrently(node: Any) -> str:
    """The statement as it should be written: CONCURRENTLY, and without IF NOT EXISTS."""
    fixed = copy.deepcopy(node)
    fixed.index_stmt.concurrent, fixed.index_stmt.if_not_exists = True, False
    return _deparse(fixed) + ";"


def plain(node: Any) -> str:
    """The statement for a forecast: neither CONCURRENTLY nor IF NOT EXISTS nor ONLY."""
    plain = copy.deepcopy(node)
    plain.index_stmt.concurrent = plain.index_stmt.if_not_exists = False
    plain.index_stmt.relation.inh = True
    return _deparse(plain)


def drop_evidence(shown: str, drop: DropForecast) -> dict[str, Any]:
    return {
        "index": shown,
        "level": drop.level,
        "refused": list(drop.refused),
        "breaks": list(drop.breaks),
        "plans": [
            {"queryid": p.queryid, "query": p.query[:200], "cost_before": p.cost_before, "cost_after": p.cost_after}
            for p in drop.plans[:10]
        ],
        "foreign_keys": [k.name for k in drop.served_keys],
        "scans": drop.usage.scans,
        "scans_since": drop.usage.since,
        "standbys": drop.standbys.status,
        "unknown": list(drop.unknown),
        "rebuild_seconds": list(drop.rebuild.build_seconds) if drop.rebuild else None,
    }
