"""The data of the frozen engine: a shop with a hot query that lacks an index, as the demo has it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from indexpilot_tui.engine.journal.records import Bypass
from indexpilot_tui.engine.model.change import Change, Event, Plan, QueryVerdict, State, Verification
from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.model.wayback import DIFFERS, HELD, Rehearsal, WayBack
from indexpilot_tui.engine.model.wayback import Cost as ReturnCost
from indexpilot_tui.engine.observe.blocking import blocking_of
from indexpilot_tui.engine.observe.blocking_model import Blocking
from indexpilot_tui.engine.observe.model import (
    Activity,
    BuildProgress,
    Cost,
    DatabaseSpot,
    FindingKind,
    Group,
    HealthFinding,
    HistoryPoint,
    Hotspot,
    Hotspots,
    IndexDetail,
    IndexHealth,
    IndexRow,
    Observation,
    QueryDetail,
    TableSpot,
    View,
)
from indexpilot_tui.engine.postgres.session import SentStatement
from indexpilot_tui.engine.whatif.model import (
    Confidence,
    Forecast,
    IndexForecast,
    LeftOut,
    QueryForecast,
    WriteForecast,
)

NOW = datetime(2026, 3, 14, 14, 3, 22, tzinfo=UTC)
NAME = "orders_customer_id_idx"
CANDIDATES = (
    "CREATE INDEX CONCURRENTLY orders_customer_id_idx ON public.orders USING btree (customer_id)",
    "CREATE INDEX CONCURRENTLY orders_customer_id_placed_at_idx ON public.orders USING btree (customer_id, placed_at DESC)",
    "CREATE INDEX CONCURRENTLY orders_customer_id_incl_idx ON public.orders USING btree (customer_id) INCLUDE (total)",
)
_QUERIES = (
    ("select * from orders where customer_id = $1 order by placed_at desc limit $2", 412.0, 18.42, 12.0, 0.312, 0.61, 0.0),
    ("select o.id, c.name from orders o join customers c on c.id = o.customer_id where o.status = $1", 55.1, 84.9, 40.0,
     0.187, 0.991, 12.5),
    ("update inventory set reserved = reserved + $1 where product_id = $2", 230.4, 4.11, 1.0, 0.101, 0.999, 0.0),
    ("select sum(total) from orders where placed_at >= $1 and placed_at < $2", 2.1, 410.7, 1.0, 0.092, 0.42, 220.0),
    ("insert into order_items (order_id, product_id, quantity, price) values ($1, $2, $3, $4)", 640.0, 0.42, 1.0, 0.029,
     1.0, 0.0),
    ("select * from products where sku = $1", 980.2, 0.11, 1.0, 0.012, 1.0, 0.0),
    ("select count(*) from reviews where product_id = $1", 22.4, 3.9, 1.0, 0.009, 0.97, 0.0),
)  # fmt: skip


def hotspots() -> Hotspots:
    items = tuple(
        Hotspot(
            queryid=4_000_000_000_000_000_000 + number,
            query=query,
            user="shop",
            calls_per_s=calls,
            ms_per_s=calls * mean,
            mean_ms=mean,
            rows_per_call=rows,
            share=share,
            hit_ratio=hit,
            temp_blocks_per_s=temp,
            wal_bytes_per_s=calls * 120 if query.startswith(("update", "insert")) else 0.0,
            trend=tuple(calls * mean * (0.5 + 0.06 * ((number * 3 + i * 5) % 9)) for i in range(12)),
            stddev_ms=mean * 0.4,
            read_blocks_per_s=calls * (1 - hit) * 40,
            written_blocks_per_s=calls * 0.1,
            read_ms_per_s=calls * (1 - hit) * 2.5,
            write_ms_per_s=0.0,
            first_seen=NOW - timedelta(minutes=9) if number == 3 else None,
            last_seen=NOW,
            waits=(("IO:DataFileRead", 0.61), ("", 0.39)) if hit < 0.9 else (("", 1.0),),
        )
        for number, (query, calls, mean, rows, share, hit, temp) in enumerate(_QUERIES)
    )
    return Hotspots(items, 2.0, 24_310.0, 63, 2, NOW - timedelta(hours=5))


TABLES = (
    TableSpot(16400, "public.orders", 0.59, 41_200.0, 0.71, 57.2, 812_000.0, 4.1, 12.5, 0.0, 0.22),
    TableSpot(16410, "public.inventory", 0.10, 1_900.0, 0.999, 0.0, 0.0, 0.0, 230.4, 0.0, 0.97),
    TableSpot(16420, "public.order_items", None, 640.0, 1.0, 0.0, 0.0, 640.0, 0.0, 0.0, None),
)
DATABASES = (
    DatabaseSpot(16384, "shop", 0.94, 24_310.0, 1_842.0, 0.93, 2_210.0, 96_000.0, 0.0, 71),
    DatabaseSpot(16385, "reports", 0.06, 1_520.0, 3.0, 0.44, 880.0, 12_000.0, 4_200_000.0, 4),
)


def blocking() -> Blocking:
    """A deploy behind an idle transaction, writers behind the deploy, a forgotten prepared transaction, a vacuum."""

    def session(pid: int, user: str, state: str, query: str, xact_s: float, **more: Any) -> dict[str, Any]:
        row: dict[str, Any] = {
            "pid": pid, "database": "shop", "user_name": user, "application": "shop-web", "client": "10.0.4.17",
            "kind": "client backend", "state": state, "wait_kind": None, "wait_event": None, "query": query, "xact_s": xact_s,
            "query_s": xact_s, "state_s": xact_s, "xmin_age": None, "hidden": False, "blocked_by": None,
        }  # fmt: skip
        return row | more

    def lock(
        pid: int | None, mode: str, granted: bool, waits_s: float | None, prepared: str | None = None
    ) -> dict[str, Any]:
        return {
            "pid": pid, "granted": granted, "kind": "relation", "mode": mode, "prepared": prepared, "relation": "public.orders",
            "relation_oid": 16400, "object": "", "page": None, "tuple": None, "waits_s": waits_s,
        }  # fmt: skip

    waits = {"wait_kind": "Lock", "wait_event": "relation"}
    return blocking_of(
        NOW,
        [
            session(8101, "shop", "idle in transaction", "select * from orders where id = 4711 for update", 754.0, xmin_age=48_211),
            session(8102, "deploy", "active", "alter table orders add column note text", 31.0, blocked_by=[8101],
                    application="flyway", **waits),
            session(8103, "shop", "active", "update orders set status = 'paid' where id = 17", 29.4, blocked_by=[8102], **waits),
            session(8104, "shop", "active", "select * from orders where customer_id = 99", 12.2, blocked_by=[8102], **waits),
            session(8200, "report", "active", "select sum(total) from orders", 1_910.0, xmin_age=93_480, application="metabase"),
        ],
        [
            lock(8101, "RowShareLock", True, None), lock(8102, "AccessExclusiveLock", False, 30.8),
            lock(8103, "RowExclusiveLock", False, 29.2), lock(8104, "AccessShareLock", False, 12.1),
        ],
        [{"xid": "91833", "gid": "batch-7", "owner": "batch", "database": "shop", "age_s": 98_000.0, "xmin_age": 2_113_480}],
        [{"kind": "vacuum", "pid": 7001, "database": "shop", "relation": "public.events", "relation_oid": 16500,
          "phase": "scanning heap", "done": 61_000, "total": 180_000, "waits_for": None}],
    )  # fmt: skip


@dataclass(frozen=True)
class FrozenBook:
    """Windows of the same figures; the fourth statement joined after the mark. What a book says is tested elsewhere."""

    newest: Hotspots
    mark: datetime | None = None

    def hotspots(self, view: View) -> Hotspots:
        spots, mark = self.newest, self.mark
        items = tuple(
            replace(i, joined=n == 3, before_ms_per_s=0.0 if n == 3 else i.ms_per_s * (0.8 if n else 0.3)) if mark else i
            for n, i in enumerate(spots.items)
        )
        seconds = {0.0: 2.0, 3600.0: 1_925.0}.get(view.window_s, view.window_s)
        made = replace(spots, items=items, view=view, mark=mark, interval_s=480.0 if view.since_mark else seconds)
        if view.window_s == 3600:
            made = replace(made, window_note="no more was watched yet")
        if view.group is Group.TABLE:
            return replace(made, items=(), tables=TABLES)
        return replace(made, items=(), databases=DATABASES) if view.group is Group.DATABASE else made


def health() -> IndexHealth:
    def index(oid: int, name: str, **fields: Any) -> IndexRow:
        base = IndexRow(oid, 16400, f"public.{name}", "public.orders", "btree", 41_000_000, 0, None, True, True,
                        True, False, False, "", False, False)  # fmt: skip
        return replace(base, **fields)

    rows = (
        index(16501, "orders_tmp_idx", valid=False),
        index(16502, "orders_old_status_idx"),
        index(16503, "orders_placed_at_idx"),
        index(16504, "orders_placed_at_dup"),
    )

    def finding(kind: FindingKind, severity: str, oid: int, name: str, size: int | None, scans: int | None, why: str,
                risk: str, fix: str, table: str = "public.orders") -> HealthFinding:  # fmt: skip
        return HealthFinding(kind, severity, oid, 16400, name, table, size, scans, why, risk, fix)

    return IndexHealth(
        rows,
        (
            finding(FindingKind.INVALID, "critical", 16501, "public.orders_tmp_idx", 41_000_000, 0,
                    "indisvalid is false: an index build was broken off; every write still maintains it",
                    "none to queries: the planner does not use it", "DROP INDEX CONCURRENTLY public.orders_tmp_idx"),
            finding(FindingKind.MISSING_FK, "warning", 0, "order_items (product_id)", None, None,
                    "foreign key order_items_product_id_fkey has no index that begins with product_id",
                    "a delete in products reads all of order_items",
                    "CREATE INDEX CONCURRENTLY order_items_product_id_idx ON public.order_items USING btree (product_id)",
                    "public.order_items"),
            finding(FindingKind.DUPLICATE, "warning", 16504, "public.orders_placed_at_dup", 22_000_000, 14,
                    "the same columns, opclasses and order as public.orders_placed_at_idx",
                    "low: the other index serves the same scans", "DROP INDEX CONCURRENTLY public.orders_placed_at_dup"),
            finding(FindingKind.UNUSED, "info", 16502, "public.orders_old_status_idx", 18_300_000, 0,
                    "no scan in 34 days on this node", "a standby or a monthly job may use it",
                    "DROP INDEX CONCURRENTLY public.orders_old_status_idx"),
        ),
        NOW - timedelta(days=34),
        NOW,
    )  # fmt: skip


DEFINITIONS = {
    16501: "CREATE INDEX orders_tmp_idx ON public.orders USING btree (status)",
    16502: "CREATE INDEX orders_old_status_idx ON public.orders USING btree (status)",
    16503: "CREATE INDEX orders_placed_at_idx ON public.orders USING btree (placed_at)",
    16504: "CREATE INDEX orders_placed_at_dup ON public.orders USING btree (placed_at)",
}


def index_detail(oid: int, count: bool) -> IndexDetail:
    return IndexDetail(
        oid, DEFINITIONS[oid], "31% (counted by pgstattuple)" if count else "28% (modelled from the statistics, ±15%)"
    )


def observation() -> Observation:
    activity = Activity(37, 12.4, 8123, "update orders set status = $1", 4.2, 0, 2, 88, 200, 1842.0)
    cost = Cost(4, 1, 1.1, 120.0, 33.0, 60.0)
    return Observation(NOW, hotspots(), health(), activity, (), cost)


def progress() -> BuildProgress:
    return BuildProgress(5120, 24601, f"public.{NAME}", "public.orders", "building index: scanning table", 6_320,
                         10_032, 2, 2, None)  # fmt: skip


def gates() -> list[Verdict]:
    since = NOW - timedelta(minutes=22)

    def verdict(guard: str, measured: str, limit: str, setting: str, why: str) -> Verdict:
        return Verdict(guard, Status.PASS, measured, limit, setting, why, since)

    safeguards = "production_safeguards"
    return [
        verdict("tls", "TLSv1.3", "verify-full", "targets.orders.sslmode", "encrypted, and the server proved who it is"),
        verdict("primary", "primary", "primary", "", "not in recovery"),
        verdict("direct_session", "direct", "direct", "", "the backend that greeted us is the one that answers"),
        verdict("privilege", "owner", "owner", "", "may act as the owner of the table"),
        verdict("approval", "not proposed", "approved", "approval.expires_after_hours", "not proposed yet"),
        verdict(
            "maintenance_window", "Sat 14:03", "13:00-17:00 UTC", f"{safeguards}.maintenance_window", "open until 17:00"
        ),
        verdict("rate_limit", "1 used", "5 in 1 h", "rate_limiter.index_creation", "4 left"),
        verdict("load", "37 active", "40", f"{safeguards}.throttle.max_active_backends", "below the limit"),
        verdict("blockers", "4.2 s", "30 s", f"{safeguards}.blockers.max_snapshot_age_seconds", "no old snapshot"),
    ]


def bypass(reviewed: bool = False) -> Bypass:
    until = NOW + timedelta(minutes=41)
    return Bypass(frozenset({"window", "rate"}), until, "alice", "incident 4711: checkout is down", reviewed, (3,))


def approval_gate(verdict: Verdict, approved: bool) -> Verdict:
    if verdict.guard != "approval":
        return verdict
    if approved:
        return replace(verdict, status=Status.PASS, measured="approved", evidence="by bob, until 14:03 tomorrow")
    return replace(verdict, status=Status.BLOCK, evidence="the change is not proposed yet, so nobody has approved it")


def closed_window(verdicts: list[Verdict]) -> list[Verdict]:
    return [
        replace(v, status=Status.WAIT, evidence="closed; opens Sun 02:00 UTC", retry_at=NOW + timedelta(hours=12))
        if v.guard == "maintenance_window"
        else v
        for v in verdicts
    ]


def detail(queryid: int, seen: Observation) -> QueryDetail:
    spot = next(i for i in seen.hotspots.items if i.queryid == queryid)
    history = tuple(
        HistoryPoint(NOW - timedelta(seconds=2 * (40 - i)), spot.calls_per_s * (0.8 + 0.02 * (i % 11)),
                     spot.mean_ms * (0.7 + 0.05 * ((i * 7) % 13)), spot.ms_per_s * (0.7 + 0.04 * ((i * 3) % 13)))
        for i in range(41)
    )  # fmt: skip
    text = spot.query.replace(" where ", "\nwhere ").replace(" order by ", "\norder by ")
    return QueryDetail(queryid, text, text, spot.user, 7_410_022, 136_500_000.0, spot.mean_ms, 6.3, 88_920_264, history)


def _scan(cost: float) -> dict[str, Any]:
    return {
        "Node Type": "Limit", "Total Cost": cost, "Plan Rows": 20,
        "Plans": [{"Node Type": "Sort", "Total Cost": cost - 2, "Plan Rows": 112, "Sort Key": ["placed_at DESC"],
                   "Plans": [{"Node Type": "Seq Scan", "Relation Name": "orders", "Alias": "orders",
                              "Filter": "(customer_id = 4711)", "Total Cost": cost - 6, "Plan Rows": 112}]}],
    }  # fmt: skip


def _indexed(cost: float) -> dict[str, Any]:
    plan = _scan(cost)
    plan["Plans"][0]["Plans"] = [
        {"Node Type": "Bitmap Heap Scan", "Relation Name": "orders", "Alias": "orders", "Total Cost": cost - 6,
         "Plan Rows": 112, "Recheck Cond": "(customer_id = 4711)",
         "Plans": [{"Node Type": "Bitmap Index Scan", "Index Name": NAME, "Index Cond": "(customer_id = 4711)",
                    "Total Cost": 5.12, "Plan Rows": 112}]}
    ]  # fmt: skip
    return plan


def forecast(ddl: str) -> Forecast:
    kind = "drop" if ddl.lower().startswith("drop") else "create"
    first, second, third = (q[0] for q in _QUERIES[:3])
    queries = (
        QueryForecast("1", first, 741_600, 18_212.4, 402.7, True, _scan(18_212.4), _indexed(402.7)),
        QueryForecast("2", second, 99_180, 24_400.0, 24_400.0, False, _scan(24_400.0), _scan(24_400.0)),
        QueryForecast("3", third, 414_720, 8.45, 8.45, False, _scan(8.45), _scan(8.45)),
    )
    left = (LeftOut("9", "select my_ext_fn(total) from orders", "function my_ext_fn(numeric) is not in the shadow"),)
    return Forecast(
        kind, ddl, NAME, "public.orders", "shadow", 180003, 180003, queries, left, 15_930_000_000.0, 2_722_000_000.0,
        IndexForecast(21_400_000, (1.8, 5.5), 23_100_000, 30_000_000), WriteForecast(12.0, 84.0), (),
        Confidence("high", ("the shadow runs the target's own major version",)), 12.4, 6, 231.0,
    )  # fmt: skip


def sent() -> list[SentStatement]:
    return [
        SentStatement(NOW - timedelta(seconds=2), "monitor", "select queryid, calls from pg_stat_statements(false)", 6.2),
        SentStatement(NOW - timedelta(seconds=1), "monitor", "select pg_catalog.clock_timestamp()", 0.3),
        SentStatement(NOW, "control", "select indexpilot.changes(50)", 1.9, "permission denied for schema indexpilot"),
    ]


def change(number: int, ddl: str, reason: str, who: str, parent: int | None = None) -> Change:
    kind = "drop" if ddl.lower().startswith("drop") else "create"
    plan = Plan(
        kind, ddl, "public", "orders", 16400, NAME, None, "btree", False, "shop_owner", "7301234567890123456", "shop"
    )
    events = (Event(1, NOW - timedelta(seconds=40), who, "proposed", {"reason": reason}),)
    return Change(number, State.PROPOSED, 0, kind, plan, plan.sha256, "orders", reason, parent, who,
                  NOW - timedelta(seconds=40), NOW - timedelta(seconds=40), events=events)  # fmt: skip


def verification() -> Verification:
    return Verification(
        "improved", "1 statement improved, none regressed",
        (
            QueryVerdict("1", _QUERIES[0][0], 24_720, 21_004, 18.42, 0.61, "improved",
                         "−97 %, t = 84.1, both sides above 30 calls"),
            QueryVerdict("3", _QUERIES[2][0], 13_824, 12_110, 4.11, 4.16, "no evidence",
                         "+1.2 % is below the 10 % that matter"),
        ), 300.0,
    )  # fmt: skip


def rehearsal(of: Change, holds: bool) -> Rehearsal:
    differences = () if holds else (f"public.{NAME}: comment was 'kept by hand' and is None",)
    played = ((of.plan.ddl, 3.4), (f"DROP INDEX CONCURRENTLY public.{NAME}", 2.1))
    result = HELD if holds else DIFFERS
    return Rehearsal(result, "", played, 4, differences, 180003, NOW - timedelta(seconds=3), "alice")


def way_back(of: Change, rehearsed: Rehearsal | None) -> WayBack:
    gates = "the gates are asked again; the maintenance window and the rate limit do not hold a way back"
    covered = "covered by the approval of bob until 2026-06-11 03:12 UTC"
    if of.kind == "drop":
        return WayBack(
            of.id, "create", "", (f"CREATE INDEX CONCURRENTLY {NAME} ON public.orders USING btree (customer_id)",
                                  f"comment on index public.{NAME} is 'kept by hand'"),
            (("definition", f"CREATE INDEX {NAME} ON public.orders USING btree (customer_id)"), ("comment", "kept by hand"),
             ("tablespace", "default"), ("storage parameters", "default"), ("CLUSTER mark", "no"),
             ("size before", "21400000 bytes")),
            (gates, "CREATE INDEX CONCURRENTLY from the saved definition", "the catalog is read again by OID"),
            ("the index is valid, ready and live, by OID", "its definition is the saved one, letter by letter"), covered,
            ReturnCost(21_400_000, (1.8, 5.5), 23_100_000, 30_000_000, "the forecast's model"), rehearsal=rehearsed,
        )  # fmt: skip
    return WayBack(
        of.id, "drop", "", (f"DROP INDEX CONCURRENTLY public.{NAME}",),
        (("made by", of.plan.ddl), ("index OID", "24601")),
        (gates, "DROP INDEX CONCURRENTLY: waits for every transaction that uses the table, readers too, and stops nobody; "
         "replay on a standby waits for its readers",
         "an observer lets through whoever queues behind it, by cancelling our own statement",
         "the catalog is read again by OID"),
        ("no index with OID 24601 in the catalog", "no INVALID index of ours is left on the table"), covered,
        frees_bytes=21_400_000, rehearsal=rehearsed,
    )  # fmt: skip


def plans() -> tuple[tuple[tuple[str, dict[str, Any]], ...], str]:
    """Two plans of one statement: the generic one and one for a rare value."""
    return (("generic plan: for any values", _scan(16_008.0)), ("$1 = 4711", _indexed(300.0))), ""
