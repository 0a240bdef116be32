"""Fixtures that several rooms share. Environment that would change results is taken away before anything is imported."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from indexpilot_tui.settings.validated import validated

for _name in list(os.environ):
    if _name.startswith(("PG", "INDEXPILOT__", "DB_")) or _name in ("INDEXPILOT_CONFIG_FILE", "TEXTUAL_THEME", "NO_COLOR"):
        del os.environ[_name]

import atexit
import shutil
import tempfile
from pathlib import Path

import pytest

from indexpilot_tui.engine import logs
from indexpilot_tui.engine.changes import job
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.faults import table
from tests.servers import DEBIAN_15, MUST_RUN, NOT_TO_BE_HAD, TlsServer, require, start_tls_server
from tests.warm import WarmSys


def _in_memory(shared: Path = Path("/dev/shm"), room: int = 8 << 30) -> None:
    """Where there is room for them the servers of a run live in memory: a database is three hundred files, and making and
    dropping nine hundred of those is a sixth of the work of a run on a disk. TMPDIR, where it is set, stands."""
    if "TMPDIR" in os.environ or not os.access(shared, os.W_OK | os.X_OK) or shutil.disk_usage(shared).free < room:
        return
    folder = tempfile.mkdtemp(prefix="ixp-", dir=shared)
    Path(folder).chmod(0o1777)  # as /tmp: servers run as another user
    os.environ["TMPDIR"], tempfile.tempdir = folder, folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


_in_memory()


LONGEST_ID = 80


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Names of tests go to and fro between the processes of a run; a parameter of a megabyte is named by its beginning."""
    if isinstance(val, (str, bytes)) and len(val) > LONGEST_ID:
        return f"{val[:LONGEST_ID]!r} and so on, {len(val)}"
    return None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(table, "faults-table")


@pytest.fixture(autouse=True)
def _no_log_after_its_test() -> Iterator[None]:
    """Its stream is closed by then."""
    yield
    if logs._Sink.stream is not None or logs.trouble():
        logs.configure(Settings(), on_screen=True)


@pytest.fixture(scope="session", autouse=True)
def _executors_start_warm() -> Iterator[None]:
    """See tests/warm.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "sys", WarmSys())
        yield


@pytest.fixture(scope="session")
def cluster18() -> Iterator[LocalCluster]:
    """One embedded PostgreSQL 18 with pg_stat_statements for a whole run; tests make databases of their own in it."""
    cluster = asyncio.run(
        LocalCluster.start(
            "tests",
            settings={
                "shared_preload_libraries": "pg_stat_statements",
                "max_connections": "120",
                "autovacuum": "off",
                "max_prepared_transactions": "5",
            },
            confined=False,  # it is production in these tests, and has a tablespace on a volume of its own
        )
    )
    yield cluster
    asyncio.run(cluster.stop())


@pytest.fixture(scope="session")
def cluster15() -> Iterator[LocalCluster]:
    """The same of Debian's PostgreSQL 15, through a unix socket."""
    require((DEBIAN_15 / "postgres").exists(), "postgresql-15")
    cluster = asyncio.run(
        LocalCluster.start(
            "tests",
            settings={
                "shared_preload_libraries": "pg_stat_statements",
                "max_connections": "120",
                "autovacuum": "off",
                "max_prepared_transactions": "5",
            },
            bindir=DEBIAN_15,
        )
    )
    yield cluster
    asyncio.run(cluster.stop())


@pytest.fixture(scope="session")
def tls_server() -> Iterator[TlsServer]:
    """Debian's PostgreSQL 15 with TLS for a whole run."""
    server = start_tls_server()
    yield server
    server.remove()


@pytest.fixture
def settings() -> Settings:
    return Settings()


def socket_target(cluster: LocalCluster, dbname: str, user: str | None = None, **fields: object) -> Target:
    """A target on the embedded server: a unix socket, with changes allowed through it."""
    values: dict[str, object] = {
        "name": "test", "environment": "development", "dsn": cluster.conninfo(dbname, user),
        "allow_unix_socket_changes": True,
    } | fields  # fmt: skip
    return validated(Target, values)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where the run says that nothing may be skipped, a skip is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    skipped = [report for report in skipped if NOT_TO_BE_HAD not in str(report.longrepr)]
    if skipped and os.environ.get(MUST_RUN):
        reporter.write_line(f"{len(skipped)} skipped although {MUST_RUN} is set", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
