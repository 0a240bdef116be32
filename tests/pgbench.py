"""pgbench as a workload that goes on beside something else, and what each of its transactions took."""

from __future__ import annotations

import asyncio
import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from indexpilot_tui.localpg import LocalCluster

READS, WRITES = "select-only", "tpcb-like"  # pgbench's own scripts; the log numbers them in this order
APPLICATION = "pgbench"


@dataclass(frozen=True, slots=True)
class Transaction:
    """One line of the log; seconds, `begin` since the epoch."""

    begin: float
    seconds: float
    script: int

    @property
    def end(self) -> float:
        return self.begin + self.seconds


@dataclass(frozen=True)
class Span:
    """A stretch of time, seconds since the epoch."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.begin


@dataclass(frozen=True)
class Figures:
    """What the workload was in some spans. A transaction's latency belongs to the span in which it began, so that one that
    was held up counts where it was held up; milliseconds."""

    tps: float
    median_ms: float
    p99_ms: float
    worst_read_ms: float
    worst_write_ms: float


def quantile(ordered: list[float], share: float) -> float:
    """The nearest-rank quantile of sorted values."""
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def figures(transactions: Iterable[Transaction], spans: list[Span]) -> Figures:
    """Raises ValueError where nothing was done at all."""
    begun: list[Transaction] = []
    ended = 0
    for one in transactions:
        begun += [one] if any(s.begin <= one.begin < s.end for s in spans) else []
        ended += any(s.begin <= one.end < s.end for s in spans)
    if not begun:
        raise ValueError("no transaction began in this time")
    ordered = sorted(one.seconds * 1000 for one in begun)

    def worst(script: int) -> float:
        return max((one.seconds * 1000 for one in begun if one.script == script), default=0.0)

    return Figures(
        ended / sum(s.seconds for s in spans), quantile(ordered, 0.5), quantile(ordered, 0.99), worst(0), worst(1)
    )  # fmt: skip


def parse(line: str) -> Transaction | None:
    """`client number microseconds script epoch microseconds`; None for one that failed or was skipped."""
    _, _, took, script, at, micros = line.split()[:6]
    if not took.isdigit():
        return None
    seconds = int(took) / 1e6
    return Transaction(int(at) + int(micros) / 1e6 - seconds, seconds, int(script))


# What pgbench does is no workload that a verification should judge. The embedded superuser has a schema of its own name, the
# control schema: pgbench's tables do not belong there.
OPTIONS = "-c search_path=public -c pg_stat_statements.track=none"


def of_cluster(cluster: LocalCluster, dbname: str) -> str:
    """Where an embedded cluster is, in words that also the libpq of an older pgbench understands."""
    return make_conninfo(
        "", host=str(cluster.socket_dir), port=str(cluster.port), user=cluster.superuser, dbname=dbname, sslmode="disable"
    )  # fmt: skip


@dataclass
class Pgbench:
    """A superuser's pgbench at `conninfo`. Start with `start`; `stop` ends it and reads its log. `scripts`: files, instead of
    pgbench's own two."""

    program: Path
    conninfo: str
    clients: int = 4
    rate: float | None = None  # transactions a second; None: as many as it can
    scripts: tuple[Path, ...] = ()
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="indexpilot-pgbench-")))
    process: subprocess.Popen[bytes] | None = None

    def command(self, *options: str) -> list[str]:
        return [str(self.program), *options, make_conninfo(self.conninfo, options=OPTIONS)]

    async def fill(self, scale: int) -> None:
        await asyncio.to_thread(
            subprocess.run, self.command("-i", "-q", "-s", str(scale)), check=True, capture_output=True
        )  # fmt: skip

    def start(self) -> None:
        scripts = [f"--file={path}" for path in self.scripts] or [f"--builtin={READS}", f"--builtin={WRITES}"]
        rate = [f"--rate={self.rate}"] if self.rate is not None else []
        options = ["-n", "-M", "prepared", "-c", str(self.clients), "-j", "1", "-T", "86400", *scripts, *rate]
        log = ["--log", f"--log-prefix={self.folder / 'log'}"]
        with (self.folder / "errors").open("ab") as errors:
            self.process = subprocess.Popen(
                self.command(*options, *log), stdout=subprocess.DEVNULL, stderr=errors
            )  # fmt: skip

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def words(self) -> str:
        """What it complained of."""
        return (self.folder / "errors").read_text("utf-8", "replace")

    def stop(self) -> list[Transaction]:
        """End its sessions, upon which it closes its log and ends. Raises RuntimeError when it had ended by itself."""
        if not self.running:
            raise RuntimeError(f"pgbench ended by itself: {self.words()}")
        self.end_sessions()
        return self.read()

    def end_sessions(self, seconds: float = 10.0) -> None:
        """A pgbench that is killed loses the end of its log; one whose sessions are gone writes it."""
        assert self.process is not None
        with psycopg.connect(self.conninfo, autocommit=True) as conn:
            end = time.monotonic() + seconds
            while self.process.poll() is None and time.monotonic() < end:
                conn.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = %s and datname = current_database()",
                    (APPLICATION,),
                )
                time.sleep(0.1)
        self.process.wait(1)

    def close(self) -> None:
        """Whatever has become of it: it is gone afterwards, and so is its log."""
        if self.process is not None and self.running:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def read(self) -> list[Transaction]:
        """What was logged, also by one that was ended before."""
        found: list[Transaction] = []
        for path in sorted(self.folder.glob("log*")):
            with path.open(encoding="ascii") as file:
                found += [one for line in file if line.endswith("\n") and (one := parse(line)) is not None]
        return found
