"""A PostgreSQL of another major version with TPC-H in it, for the exactness of forecasts.

Data by tpchgen-cli (PyPI); schema and queries in data/. The server is private (LocalCluster) and gone afterwards.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Target

DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
DATA = Path(__file__).parent / "data"
TABLES = ("region", "nation", "part", "supplier", "partsupp", "customer", "orders", "lineitem")
DATABASE = "tpch"


def queries() -> dict[str, str]:
    """The 22 queries by number."""
    found: dict[str, str] = json.loads((DATA / "tpch_queries.json").read_text("utf-8"))["queries"]
    return found


def _generator() -> str:
    beside = Path(sys.executable).parent / "tpchgen-cli"
    found = str(beside) if beside.exists() else shutil.which("tpchgen-cli")
    if found is None:
        raise FileNotFoundError("tpchgen-cli is not installed (extra `test`)")
    return found


def load(conninfo: str, scale: float) -> None:
    """Schema, data and statistics of TPC-H at `scale` into an empty database."""
    with tempfile.TemporaryDirectory(prefix="indexpilot-tpch-") as folder:
        subprocess.run([_generator(), "tbl", "-s", str(scale), f"--output-dir={folder}"], check=True, capture_output=True)
        with psycopg.connect(conninfo, autocommit=True) as conn:
            conn.execute((DATA / "tpch_schema.sql").read_bytes())
            for table in TABLES:
                copy = sql.SQL("copy {} from stdin with (delimiter '|')").format(sql.Identifier(table))
                with conn.cursor() as cursor, cursor.copy(copy) as out, (Path(folder) / f"{table}.tbl").open("rb") as f:
                    while lines := f.readlines(1 << 20):
                        out.write(b"".join(line.rstrip(b"\n").removesuffix(b"|") + b"\n" for line in lines))
            conn.execute("vacuum (analyze)")


@asynccontextmanager
async def tpch_server(scale: float, bindir: Path | None = DEBIAN_15) -> AsyncIterator[tuple[LocalCluster, Target]]:
    """A server with TPC-H at `scale`, vacuumed and analyzed; autovacuum is off so that statistics stand still."""
    async with await LocalCluster.start("target", bindir=bindir, settings={"autovacuum": "off"}) as cluster:
        with psycopg.connect(cluster.conninfo(), autocommit=True) as conn:
            conn.execute("create database tpch")
        await asyncio.to_thread(load, cluster.conninfo(DATABASE), scale)
        yield cluster, Target(name="tpch", environment="development", dsn=cluster.conninfo(DATABASE))
