"""The room of a soak: a table and a partitioned one, pgbench at work on both, and a reader and a writer of each whose waits are
measured. All of it goes on through restarts of the server."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from indexpilot_tui.localpg import LocalCluster
from tests.faults.soaking import soak_settings
from tests.faults.traffic import STATEMENTS, Traffic
from tests.faults.workshop import OnSocket, OverTls, Workshop, make_workshop
from tests.pgbench import Pgbench, of_cluster
from tests.servers import TlsServer

TABLES = """
set role w_owner;
create table app.p (id int not null, k int not null, w text) partition by range (k);
create table app.p_low partition of app.p for values from (0) to (200) partition by range (k);
create table app.p_a partition of app.p_low for values from (0) to (100);
create table app.p_b partition of app.p_low for values from (100) to (200);
create table app.p_c partition of app.p for values from (200) to (300);
insert into app.p select i, i % 300, md5(i::text) from generate_series(1, 9000) i;
analyze app.p;
"""
LANES = STATEMENTS | {
    "reader_of_parts": b"select w from app.p where k = 107 and id = 107",
    "writer_of_parts": b"update app.p set w = w where k = 108 and id = 108",
}
# writes that no index spares themselves, unlike those of the measured writers
SCRIPTS = {
    "reads": """\\set id random(1, 20000)
\\set k random(0, 299)
select v, w from app.t where id = :id;
select count(*) from app.p where k = :k;
""",
    "writes": """\\set id random(100, 20000)
\\set k random(0, 299)
begin;
update app.t set w = md5(:id::text || clock_timestamp()::text) where id = :id;
insert into app.p values (1000000 + :id, :k, 'new');
delete from app.p where k = :k and id > 100000;
end;
""",
}
RATE = 30.0
AGAIN_S = 0.3


@dataclass
class Busy:
    """pgbench at work. One that has lost a session to a fault (a stop of the server, a UNIQUE index that refuses a row) is
    replaced by another when it has lost all. `lost`: how often that was."""

    pgbench: Pgbench
    lost: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self.pgbench.start()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._stop.wait(AGAIN_S):
            if not self.pgbench.running:
                self.lost += 1
                self.pgbench.start()

    def stop(self) -> int:
        """How many transactions it has done."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10)
        if self.pgbench.running:
            with contextlib.suppress(psycopg.OperationalError):  # the server is away: what it has logged so far counts
                self.pgbench.end_sessions()
        done = len(self.pgbench.read())
        self.pgbench.close()
        return done


def _pgbench(place: OnSocket | OverTls, dbname: str) -> Pgbench:
    if isinstance(place, OverTls):
        made = Pgbench(place.server.bindir / "pgbench", place.conninfo(dbname), clients=2, rate=RATE)
    else:
        made = Pgbench(place.cluster.bindir / "pgbench", of_cluster(place.cluster, dbname), clients=2, rate=RATE)
    for name, text in SCRIPTS.items():
        (made.folder / f"{name}.sql").write_text(text)
    made.scripts = tuple(Path(made.folder / f"{name}.sql") for name in SCRIPTS)
    return made


@asynccontextmanager
async def busy_workshop(server: LocalCluster | TlsServer) -> AsyncIterator[Workshop]:
    """A workshop for a soak. Raises AssertionError when pgbench did nothing in it."""
    place = OnSocket(server) if isinstance(server, LocalCluster) else OverTls(server)
    async with make_workshop(place, soak_settings()) as workshop:
        workshop.sql(TABLES)
        if workshop.traffic_of is not None:
            workshop.traffic_of.stop()
        workshop.traffic_of = Traffic(place.conninfo(workshop.dbname), LANES)
        workshop.traffic_of.start()
        busy = Busy(_pgbench(place, workshop.dbname))
        busy.start()
        try:
            yield workshop
        finally:
            done = busy.stop()
        print(f"pgbench did {done} transactions in {workshop.dbname}; {busy.lost} times a fault had ended it")
        if not done:
            pytest.fail(f"pgbench did nothing: {busy.pgbench.process}")
