"""Every `.sql` file of the package on every server that we support, asked by a login that has pg_monitor and nothing else.

Each file is loaded as the product loads it (the variant for that server), and executed with sample parameters. What a server must
refuse is named here with the reason; a refusal that is not named fails, and so does a named one that does not come.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import indexpilot_tui
from indexpilot_tui.engine.journal.setup import setup_sql
from indexpilot_tui.engine.observe.health import read_health
from indexpilot_tui.engine.observe.model import FindingKind
from indexpilot_tui.engine.observe.observer import Watcher
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.session import Purpose, session
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Observe, Settings
from tests.conftest import socket_target
from tests.servers import require
from tests.versions import MAJORS, programs

ROOT = Path(str(resources.files(indexpilot_tui)))
PREPARED = (
    "create table public.t (id int primary key, a int not null, b text)",
    "insert into public.t select i, i % 10, md5(i::text) from generate_series(1, 1000) i",
    "create index t_a on public.t (a)",
    "create index t_lower on public.t (lower(b)) where a > 3",
    "create table public.child (id int references public.t)",
    "create statistics t_stats on a, b from public.t",
    "analyze",
    "create extension pg_stat_statements schema public",
    "create extension pgstattuple schema public",
    "create role mon login",
    "grant pg_monitor to mon",
    "create role journal login",
    "grant indexpilot_operator, indexpilot_monitor to journal",
)
# Values for parameters, by name; NULL for one that is not here. Oids are filled in from the table above.
SAMPLES: dict[str, Any] = {
    "own": [1], "any_lock": True, "pid": 1, "backend_start": datetime(2026, 1, 1, tzinfo=UTC), "schema": "public",
    "schemas": ["public"], "name": "t", "names": ["t"], "method": "btree", "limit": 5, "queryids": [1, 2], "types": [23, 25],
    "extension": "hypopg", "rows": 10, "share": 0.1, "id": 1, "after": 0, "change": None, "events": 5, "states": None,
    "table": "t", "database": 5, "seconds": 5.0,
}  # fmt: skip
# asked by a login with a role of the control schema, which exists there
WITH_ROLE = ("engine/journal", "engine/whatif/stats_reader", "engine/changes/build_widths")
REFUSED: dict[str, str] = {}  # room/name: what the server says
# of extensions that only some servers have: asked in test_optional on one that has them
OPTIONAL = ("engine/observe/optional/", "engine/whatif/quals", "engine/whatif/advise/seen_conditions")


@dataclass(frozen=True)
class Server:
    major: int
    cluster: LocalCluster
    samples: dict[str, Any]


@cache
def questions() -> tuple[tuple[str, str, frozenset[int]], ...]:
    """(room, question, minimum versions of its variants) of every file, but the demo's and the set-up's, which write."""
    found: dict[tuple[str, str], set[int]] = {}
    for path in ROOT.rglob("sql/*.sql"):
        room = str(path.parent.parent.relative_to(ROOT))
        match = re.fullmatch(r"(.+?)(?:_post_(\d{6}))?", path.stem)
        assert match
        if room != "demo" and not f"{room}/{match[1]}".startswith(OPTIONAL):
            found.setdefault((room, match[1]), set()).add(int(match[2] or 0))
    return tuple((room, name, frozenset(minimums)) for (room, name), minimums in sorted(found.items()))


@pytest.fixture(scope="module", params=MAJORS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    major = int(request.param)
    bindir = programs(major)
    require(bindir is not None, f"PostgreSQL {major} (npm, or Debian's package for 15)")
    settings = {"shared_preload_libraries": "pg_stat_statements", "autovacuum": "off"}
    cluster = asyncio.run(LocalCluster.start("versions", settings=settings, bindir=None if major == 18 else bindir))
    try:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute(setup_sql().encode())
            for statement in PREPARED:
                conn.execute(statement.encode())
            row = conn.execute("select 't'::regclass::oid::int8, 't_a'::regclass::oid::int8").fetchone()
            assert row
        oids = {"oids": [row[0]], "table_oid": row[0], "oid": row[1], "own_oid": row[1]}
        yield Server(major, cluster, SAMPLES | oids)
    finally:
        asyncio.run(cluster.stop())


def complaint(conn: psycopg.Connection[Any], server: Server, room: str, name: str, minimums: frozenset[int]) -> str:
    """What is wrong with one question on one server; empty: it was answered, with at least one column."""
    package = "indexpilot_tui." + room.replace("/", ".")
    version = conn.info.server_version
    if min(minimums) > version:
        return ""  # the question is for newer servers only, and the product does not ask it here
    text = load(package, name, version)
    names = set(re.findall(r"%\((\w+)\)s", text))
    fields = {"schema": sql.Identifier("public"), "limit": sql.Literal(5)}
    fields = {key: value for key, value in fields.items() if "{" + key + "}" in text}
    query = sql.SQL(text).format(**fields) if fields else text.encode()
    try:
        with conn.transaction(force_rollback=True):
            conn.execute("set transaction read only")
            cursor = conn.execute(query, {key: server.samples.get(key) for key in names} if names else None)
            return "" if cursor.description else "no answer"
    except psycopg.Error as exc:
        return f"{type(exc).__name__}: {exc.diag.message_primary or exc}"


def test_every_question_is_answered(server: Server) -> None:
    found: dict[str, str] = {}
    logins = {user: psycopg.connect(server.cluster.conninfo(user=user), autocommit=True) for user in ("mon", "journal")}
    try:
        asked = questions()
        for room, name, minimums in asked:
            conn = logins["journal" if f"{room}/{name}".startswith(WITH_ROLE) else "mon"]
            said = complaint(conn, server, room, name, minimums)
            if said:
                found[f"{room}/{name}"] = said
    finally:
        for conn in logins.values():
            conn.close()
    assert len(asked) > 60
    assert found == REFUSED


async def test_it_is_looked_at_as_pg_monitor(server: Server) -> None:
    """The whole of it, on every major: figures, findings and no refusal for a login that has pg_monitor and nothing else."""
    settings = Settings(observe=Observe(unused_min_age_days=0, server_ms_per_minute_budget=1e6))
    watcher = Watcher(settings)
    async with session(socket_target(server.cluster, "postgres", "mon"), Purpose.MONITOR, settings) as s:
        await watcher.refresh(s)
        with psycopg.connect(server.cluster.conninfo(), autocommit=True) as conn:
            conn.execute("select count(*) from public.t where a = 3")
        for _ in range(12):
            seen = await watcher.refresh(s)
        health = await read_health(s, settings)
    assert seen.error == ""
    assert seen.refused == ()
    assert seen.hotspots.available
    assert seen.hotspots.hidden == 0
    assert seen.health is not None
    assert seen.activity.active_backends is not None
    assert seen.signals is not None
    assert seen.signals.replication is not None
    assert seen.cost.round_trips <= 2  # of the texts, too, when they are due
    assert [f.index for f in health.findings if f.kind is FindingKind.MISSING_FK] == ["id"]
    assert "public.t_lower" in {f.index for f in health.findings if f.kind is FindingKind.UNUSED}


def test_the_setup_may_be_run_again(server: Server) -> None:
    with psycopg.connect(server.cluster.conninfo(), autocommit=True) as conn:
        assert conn.info.server_version // 10_000 == server.major
        conn.execute(setup_sql().encode())
        row = conn.execute("select count(*) from indexpilot.schema_version").fetchone()
    assert row == (1,)
