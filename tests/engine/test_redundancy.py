"""Pairs of indexes on a real server: whether one is superfluous beside the other, in truth and in our verdict.

The truth is tried, not only written down: a probe (a search, an order, an index-only scan, a row that must be refused) is served by the
first index, and then, with it dropped, by the second one or not. `python -m tests.engine.test_redundancy` prints the table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from indexpilot_tui.engine.observe.health import read_health
from indexpilot_tui.engine.observe.model import FindingKind
from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.servers import DEBIAN_15, require

KEEP = ""
DUP, PREFIX, COVERED, CONSTRAINT = "duplicate", "left_prefix", "covered", "repeated_constraint"
OURS = (FindingKind.DUPLICATE, FindingKind.LEFT_PREFIX, FindingKind.COVERED, FindingKind.REPEATED_CONSTRAINT)
# columns in this order: a is number 1, k is 11, l is 12: look-alikes of number 1 as text
COLUMNS = (
    "a int, b int, c int, n int not null, x text, y text, v varchar(40), j jsonb, r int4range, ts timestamptz, k int, l int,"
    " arr int[], z text collate other"
)
ROWS = (
    "select i % 500, i % 7, i % 11, i, 'x' || i % 300, 'y' || i % 50, 'v' || i % 200, jsonb_build_object('k', i % 100),"
    " int4range(i, i + 5), now() - i * interval '1 hour', i % 499, i % 13, array[i % 20, i % 30],"
    " 'z' || i % 300 from generate_series(1, 2000) i"
)


@dataclass(frozen=True)
class Pair:
    """`gone` and `kept` are what follows CREATE ... INDEX name; `{t}` is the table, `{g}` and `{k}` are their names.
    `probe`: `search SQL`, `order SQL`, `only SQL` (an index-only scan), `refused SQL` (a statement that must fail), `accepted SQL`;
    empty: nothing can be tried, and `why` says what counts. `before`: statements after the table was made."""

    name: str
    gone: str
    kept: str
    truth: str
    probe: str
    why: str = ""
    before: tuple[str, ...] = ()
    data: bool = True
    after: tuple[str, ...] = ()  # once both are there


def on(columns: str, *, unique: bool = False, method: str = "btree", rest: str = "") -> str:
    return f"create {'unique ' if unique else ''}index {{name}} on {{t}} using {method} ({columns}) {rest}"


PAIRS = (
    # keys
    Pair("the same", on("a"), on("a"), DUP, "search where a = 5"),
    Pair("the same two", on("a, b"), on("a, b"), DUP, "search where a = 5 and b = 5"),
    Pair("left prefix", on("a"), on("a, b"), PREFIX, "search where a = 5"),
    Pair("left prefix of three", on("a, b"), on("a, b, c"), PREFIX, "search where a = 5 and b = 5"),
    Pair("not the leading key", on("b"), on("a, b"), KEEP, "order order by b"),
    Pair("keys turned round", on("a, b"), on("b, a"), KEEP, "order order by a, b"),
    Pair("wider against narrower", on("a, b"), on("a"), KEEP, "order order by a, b"),
    Pair("number 1 against number 11", on("a"), on("k"), KEEP, "search where a = 5"),
    Pair("number 1 against number 11, 1", on("a"), on("k, a"), KEEP, "order order by a"),
    Pair("number 1, 1x against 1x", on("a, l"), on("k, l"), KEEP, "search where a = 5 and l = 5"),
    Pair("another column", on("a"), on("n"), KEEP, "search where a = 5"),
    # direction and nulls
    Pair("DESC twin", on("a"), on("a desc"), DUP, "order order by a"),
    Pair("DESC twin of two", on("a, b desc"), on("a desc, b"), DUP, "order order by a, b desc"),
    Pair("DESC of one of two", on("a, b desc"), on("a, b"), KEEP, "order order by a, b desc"),
    Pair("DESC prefix", on("a desc"), on("a, b"), PREFIX, "order order by a desc"),
    Pair("DESC in a prefix of a mixed one", on("a desc, b"), on("a, b desc, c"), PREFIX, "order order by a desc, b"),
    Pair("NULLS FIRST against the default", on("a nulls first"), on("a"), KEEP, "order order by a nulls first"),
    Pair("NULLS FIRST against DESC", on("a nulls first"), on("a desc"), KEEP, "order order by a nulls first"),
    Pair("NULLS FIRST against DESC NULLS LAST", on("a nulls first"), on("a desc nulls last"), DUP, "order order by a nulls first"),
    Pair("NULLS LAST of DESC on a NOT NULL column", on("n desc nulls last"), on("n"), KEEP, "order order by n desc nulls last",
         "the planner compares the order of nulls also where there can be none"),
    # included columns
    Pair("INCLUDE superset", on("a"), on("a", rest="include (b)"), DUP, "search where a = 5"),
    Pair("INCLUDE superset of two", on("a", rest="include (b)"), on("a", rest="include (c, b)"), DUP, "only b where a = 5"),
    Pair("INCLUDE subset", on("a", rest="include (b)"), on("a"), KEEP, "only b where a = 5"),
    Pair("INCLUDE against key", on("a", rest="include (b)"), on("a, b"), PREFIX, "only b where a = 5"),
    Pair("key against INCLUDE", on("a, b"), on("a", rest="include (b)"), KEEP, "order order by a, b"),
    Pair("INCLUDE of another", on("a", rest="include (b)"), on("a", rest="include (c)"), KEEP, "only b where a = 5"),
    # expressions
    Pair("the same expression", on("lower(x)"), on("lower(x)"), DUP, "search where lower(x) = 'x5'"),
    Pair("expression prefix", on("lower(x)"), on("lower(x), a"), PREFIX, "search where lower(x) = 'x5'"),
    Pair("expression look-alike", on("lower(x)"), on("lower(x || y)"), KEEP, "search where lower(x) = 'x5'"),
    Pair("expression against column", on("lower(x)"), on("x"), KEEP, "search where lower(x) = 'x5'"),
    Pair("expression behind a column", on("a, lower(x)"), on("a, lower(x), b"), PREFIX, "search where a = 5 and lower(x) = 'x5'"),
    Pair("another expression behind it", on("a, lower(x)"), on("a, upper(x)"), KEEP, "search where lower(x) = 'x5' and a = 5"),
    # operator classes and collations
    Pair("another operator class", on("z text_pattern_ops"), on("z"), KEEP, "search where z ~~ 'z5%'"),
    Pair("the same other operator class", on("x text_pattern_ops"), on("x text_pattern_ops, a"), PREFIX, "search where x ~~ 'x5%'"),
    Pair("two names of one operator class", on("v varchar_ops"), on("v"), DUP, "search where v = 'v5'"),
    Pair("another collation", on('x collate "C"'), on("x"), KEEP, 'order order by x collate "C"'),
    Pair("the same collation", on('x collate "C"'), on('x collate "C", a'), PREFIX, 'order order by x collate "C"'),
    Pair("GIN of another operator class", on("j jsonb_path_ops", method="gin"), on("j", method="gin"), KEEP,
         "", "jsonb_path_ops is smaller and answers @> alone, jsonb_ops answers more: neither has what the other has"),
    # predicates
    Pair("the same predicate", on("a", rest="where b > 3"), on("a", rest="where b > 3"), DUP, "search where a = 5 and b > 3"),
    Pair("prefix with the same predicate", on("a", rest="where b > 3"), on("a, c", rest="where b > 3"), PREFIX,
         "search where a = 5 and b > 3"),
    Pair("partial against full", on("a", rest="where b = 3"), on("a"), KEEP, "",
         "the full one answers it too; the partial one is a seventh of its size and worth having"),
    Pair("full against partial", on("a"), on("a", rest="where b > 3"), KEEP, "search where a = 5"),
    Pair("another predicate", on("a", rest="where b > 3"), on("a", rest="where b < 2"), KEEP, "search where a = 5 and b > 3"),
    Pair("predicates in another order", on("a", rest="where b > 3 and c > 1"), on("a", rest="where c > 1 and b > 3"), DUP,
         "search where a = 5 and b > 3 and c > 1"),
    Pair("OR is no AND", on("a", rest="where b > 3 or c > 1"), on("a", rest="where b > 3 and c > 1"), KEEP,
         "search where a = 5 and c > 1"),
    Pair("a predicate that leaves out nothing", on("a", rest="where n > 0"), on("a"), COVERED, "search where a = 5 and n > 0"),
    Pair("a number implies a number", on("a", rest="where n > 20"), on("a", rest="where n > 10"), COVERED,
         "search where a = 5 and n > 20"),
    Pair("a number does not imply a larger one", on("a", rest="where n > 10"), on("a", rest="where n > 20"), KEEP,
         "search where a = 5 and n > 10"),
    Pair("NOT NULL that leaves out nothing", on("a", rest="where a is not null"), on("a"), COVERED,
         "search where a = 5"),
    Pair("NOT NULL that leaves out most", on("c", rest="where c is not null"), on("c"), KEEP, "",
         "nine in ten rows are null: the partial one is a tenth of the size", before=("update {t} set c = null where n % 10 > 0",)),
    # uniqueness
    Pair("plain against unique", on("n"), on("n", unique=True), DUP, "search where n = 5"),
    Pair("plain against primary key", on("n"), "alter table {t} add constraint {name} primary key (n)", DUP, "search where n = 5"),
    Pair("unique against plain", on("n", unique=True), on("n"), KEEP, "refused insert into {t} (n) values (5)"),
    Pair("unique against primary key", on("n", unique=True), "alter table {t} add constraint {name} primary key (n)", DUP,
         "refused insert into {t} (n) values (5)"),
    Pair("unique against primary key, ON CONFLICT", on("n", unique=True),
         "alter table {t} add constraint {name} primary key (n)", DUP,
         "accepted insert into {t} (n) values (5) on conflict (n) do nothing"),
    Pair("unique against deferrable constraint", on("n", unique=True),
         "alter table {t} add constraint {name} unique (n) deferrable", KEEP,
         "accepted insert into {t} (n) values (5) on conflict (n) do nothing",
         "ON CONFLICT cannot use what is checked later"),
    Pair("unique of two against unique of one", on("n, a", unique=True), on("n", unique=True), KEEP,
         "accepted insert into {t} (n, a) values (5, 5) on conflict (n, a) do nothing"),
    Pair("unique of one against unique of two", on("n", unique=True), on("n, a", unique=True), KEEP,
         "refused insert into {t} (n, a) values (5, -1)"),
    Pair("unique partial against unique full", on("n", unique=True, rest="where a > 5"), on("n", unique=True), KEEP, "",
         "the full one is stricter; the partial one is another one to ON CONFLICT ... WHERE"),
    Pair("unique full against unique partial", on("n", unique=True), on("n", unique=True, rest="where a > 5"), KEEP,
         "refused insert into {t} (n, a) values (5, 0)"),
    Pair("two unique constraints", "alter table {t} add constraint {name} unique (n)",
         "alter table {t} add constraint {name} unique (n)", CONSTRAINT, "refused insert into {t} (n) values (5)"),
    Pair("unique with more included", on("n", unique=True), on("n", unique=True, rest="include (b)"), DUP,
         "refused insert into {t} (n) values (5)"),
    # access methods
    Pair("BRIN against btree", on("n", method="brin"), on("n"), KEEP, "", "a thousandth of the size: it may stay for that"),
    Pair("btree against BRIN", on("n"), on("n", method="brin"), KEEP, "order order by n"),
    Pair("hash against btree", on("x", method="hash"), on("x"), KEEP, "", "smaller for long keys: it may stay for that"),
    Pair("hash twin", on("x", method="hash"), on("x", method="hash"), DUP, "search where x = 'x5'"),
    Pair("GIN twin", on("j", method="gin"), on("j", method="gin", rest="with (fastupdate = off)"), DUP,
         """search where j @> '{"k": 5}'"""),
    Pair("GIN of one against GIN of two", on("j", method="gin"), on("arr, j", method="gin"), COVERED,
         """search where j @> '{"k": 5}'"""),
    Pair("BRIN of one against BRIN of two", on("n", method="brin"), on("ts, n", method="brin"), COVERED, "search where n = 5"),
    Pair("BRIN of other ranges", on("n", method="brin", rest="with (pages_per_range = 4)"), on("n", method="brin"), KEEP, "",
         "finer ranges find fewer pages"),
    Pair("GiST twin", on("r", method="gist"), on("r", method="gist"), DUP, "search where r && int4range(5, 9)"),
    Pair("GiST beside an exclusion constraint", on("r", method="gist"),
         "alter table {t} add constraint {name} exclude using gist (r with -|-) where (a < 0)", KEEP, "",
         "the constraint's index is partial"),
    Pair("plain GiST against an exclusion constraint", on("r", method="gist"),
         "alter table {t} add constraint {name} exclude using gist (r with &&)", DUP, "search where r && int4range(5, 9)",
         data=False),
    # what else rests on it
    Pair("replica identity", on("n", unique=True), "alter table {t} add constraint {name} primary key (n)", KEEP, "",
         "logical replication would stop", after=("alter table {t} replica identity using index {g}",)),
    Pair("CLUSTER goes by it", on("a"), on("a, b"), KEEP, "", "CLUSTER without a name would fail", after=("cluster {t} using {g}",)),
    Pair("a foreign key points to it", "select 'unique (n), made first'", on("n", unique=True), KEEP, "",
         "PostgreSQL refuses to drop it",
         before=("create unique index {g} on {t} (n)", "create table {t}_child (n int references {t} (n))")),
    Pair("it serves a foreign key, and so does the other", on("a"), on("a, b"), PREFIX, "search where a = 5", "",
         before=("create table {t}_parent (a int primary key)", "insert into {t}_parent select generate_series(0, 499)",
                 "alter table {t} add foreign key (a) references {t}_parent")),
    Pair("the other one is INVALID", on("a"), on("a"), KEEP, "", "an invalid index answers nothing",
         after=("update pg_index set indisvalid = false where indexrelid = '{k}'::regclass",)),
)  # fmt: skip
PARTITIONED = (
    ("parts of one parent index, and one of their own", "p_a_own", DUP),
    ("the part itself", "p1_a_idx", KEEP),
    ("two indexes of the whole", "p_dup", DUP),
)


def _setup(conn: psycopg.Connection[Any]) -> None:
    conn.execute("set allow_system_table_mods = on")
    conn.execute(
        "create collation other (provider = libc, locale = 'C.utf8')"
    )  # in a C database LIKE needs no operator class
    for number, pair in enumerate(PAIRS):
        names = {"t": f"t{number}", "g": f"gone{number}", "k": f"kept{number}"}
        conn.execute(f"create table t{number} ({COLUMNS})".encode())
        if pair.data:
            conn.execute(f"insert into t{number} {ROWS}".encode())
        for statement in pair.before:
            conn.execute(statement.format(**names).encode())
        conn.execute(f"vacuum analyze t{number}".encode())
        for which, text in (("k", pair.kept), ("g", pair.gone)):  # of two equal ones the newer goes
            conn.execute(text.format(**names, name=names[which]).encode())
        for statement in pair.after:
            conn.execute(statement.format(**names).encode())
        conn.execute(f"vacuum analyze t{number}".encode())
    for statement in (
        "create table p (a int, b int) partition by range (b)",
        "create table p1 partition of p for values from (0) to (10)", "create table p2 partition of p for values from (10) to (20)",
        "insert into p select i, i % 20 from generate_series(1, 1000) i",
        "create index p_a on p (a)", "create index p_dup on p (a)", "create index p_a_own on p1 (a)", "analyze p",
    ):  # fmt: skip
        conn.execute(statement.encode())


def _plan(conn: psycopg.Connection[Any], query: str) -> list[dict[str, Any]]:
    row = conn.execute(f"explain (format json, costs off) {query}".encode()).fetchone()
    assert row
    found: list[dict[str, Any]] = []
    left = [row[0][0]["Plan"]]
    while left:
        node = left.pop()
        found.append(node)
        left += node.get("Plans", [])
    return found


def served(conn: psycopg.Connection[Any], pair: Pair, table: str, index: str) -> str:
    """How the probe is answered by this index: its conditions, `in order`, `unique`; empty: it is not."""
    how, _, what = pair.probe.partition(" ")
    if how in ("refused", "accepted"):
        try:
            with conn.transaction(force_rollback=True):
                conn.execute(what.format(t=table).encode())
        except (psycopg.errors.UniqueViolation, psycopg.errors.InvalidColumnReference,
                psycopg.errors.ObjectNotInPrerequisiteState):  # fmt: skip
            return "unique" if how == "refused" else ""
        return "unique" if how == "accepted" else ""
    column, _, rest = what.partition(" ") if how == "only" else ("*", "", what)
    conn.execute(f"set local enable_bitmapscan = {'on' if how == 'search' else 'off'}".encode())
    nodes = _plan(conn, f"select {column} from {table} {rest}")
    mine = [node for node in nodes if node.get("Index Name") == index]
    if any("Sort" in node["Node Type"] for node in nodes) or not mine:
        return ""
    if how == "only" and mine[0]["Node Type"] != "Index Only Scan":
        return ""
    return "in order" if how == "order" else str(mine[0].get("Index Cond", ""))


def tried(conn: psycopg.Connection[Any], number: int, pair: Pair) -> str:
    """The truth of a pair as the server has it: `superfluous`, `needed`, or empty where there is no probe."""
    if not pair.probe:
        return ""
    table, gone, kept = f"t{number}", f"gone{number}", f"kept{number}"
    with conn.transaction(force_rollback=True):
        conn.execute("set local enable_seqscan = off; set local enable_sort = off; set local enable_incremental_sort = off")
        drop = f"drop index {gone}" if pair.truth != CONSTRAINT else f"alter table {table} drop constraint {gone}"
        with conn.transaction(force_rollback=True):
            if "add constraint" in pair.kept:
                conn.execute(f"alter table {table} drop constraint {kept}".encode())
            else:
                conn.execute(f"drop index {kept}".encode())
            alone = served(conn, pair, table, gone)
        assert alone, "the probe does not show what the index is good for"
        conn.execute(drop.encode())
        return "superfluous" if served(conn, pair, table, kept) == alone else "needed"


@pytest.fixture(scope="module", params=["18", "15"])
def judged(request: pytest.FixtureRequest) -> Iterator[tuple[psycopg.Connection[Any], dict[str, tuple[str, str]]]]:
    """A server with all the pairs, and our verdict by index name: (kind, fix)."""
    if request.param == "15":
        require(DEBIAN_15.is_dir(), "PostgreSQL 15 of Debian")
    cluster, conn, verdicts = asyncio.run(_judge(request.param))
    yield conn, verdicts
    conn.close()
    asyncio.run(cluster.stop())


async def _judge(version: str) -> tuple[LocalCluster, psycopg.Connection[Any], dict[str, tuple[str, str]]]:
    settings = {"max_locks_per_transaction": "1000", "autovacuum": "off"}
    cluster = await LocalCluster.start("pairs", settings=settings, bindir=DEBIAN_15 if version == "15" else None)
    conn = psycopg.connect(cluster.conninfo(), autocommit=True)
    _setup(conn)
    target = Target(name="pairs", environment="development", dsn=cluster.conninfo())
    session = await connect(target, Purpose.MONITOR, Settings())
    try:
        health = await read_health(session, Settings())
    finally:
        await session.close()
    found = {f.index.split(".", 1)[1]: (f.kind.value, f.fix) for f in health.findings if f.kind in OURS}
    return cluster, conn, found


@pytest.mark.parametrize("number", range(len(PAIRS)), ids=[pair.name for pair in PAIRS])
def test_pair(judged: tuple[psycopg.Connection[Any], dict[str, tuple[str, str]]], number: int) -> None:
    conn, verdicts = judged
    pair = PAIRS[number]
    kind, fix = verdicts.get(f"gone{number}", (KEEP, ""))
    assert kind == pair.truth
    if kind in (DUP, PREFIX, COVERED):
        assert fix == f'DROP INDEX CONCURRENTLY "public"."gone{number}"'
    truth = tried(conn, number, pair)
    assert truth == "" or (truth == "superfluous") is (pair.truth != KEEP)
    assert truth or pair.why


def test_there_are_enough_pairs() -> None:
    assert len(PAIRS) + len(PARTITIONED) >= 40
    assert len({pair.name for pair in PAIRS}) == len(PAIRS)


@pytest.mark.parametrize(("what", "index", "kind"), PARTITIONED)
def test_partitions(
    judged: tuple[psycopg.Connection[Any], dict[str, tuple[str, str]]], what: str, index: str, kind: str
) -> None:
    verdicts = judged[1]
    found, fix = verdicts.get(index, (KEEP, ""))
    assert found == kind
    assert bool(fix) is (index == "p_a_own")  # the whole goes with its parts, and not concurrently


async def _table() -> None:
    print("| pair | superfluous | other | truth | tried | verdict |\n| --- | --- | --- | --- | --- | --- |")
    cluster, conn, verdicts = await _judge("18")
    wrong = 0
    for number, pair in enumerate(PAIRS):
        verdict = verdicts.get(f"gone{number}", (KEEP, ""))[0]
        wrong += verdict != pair.truth
        texts = (
            text.format(name="", t="t").replace("create ", "").replace("alter table t add ", "")
            for text in (pair.gone, pair.kept)
        )
        gone, kept = (" ".join(text.split()) for text in texts)
        print(
            f"| {pair.name} | {gone} | {kept} | {pair.truth or 'keep'} | {tried(conn, number, pair) or pair.why} | {verdict or 'keep'} |"
        )
    print(f"\n{len(PAIRS)} pairs, {wrong} verdicts wrong")
    conn.close()
    await cluster.stop()


if __name__ == "__main__":
    asyncio.run(_table())
