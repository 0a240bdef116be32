"""The control schema in one file: how it is written, and how it is read again.

JSON lines, plain ASCII. The first says whose control schema it is and which settings the program had, then comes every row
of every table, and the last line holds how many rows there are and the SHA-256 of all lines before it. Whether what it says
can be true is for `backup_check`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from psycopg import sql

from indexpilot_tui import __version__
from indexpilot_tui.engine.journal.log import Log
from indexpilot_tui.engine.journal.setup import SCHEMA_VERSION
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import NotInstalledError, PrivilegeError, UsageError

FORMAT = "indexpilot control schema 1"
# In the order in which they can be restored: what is referred to comes first. Not in it: what setup-sql makes
# (schema_version, transitions), and whose statistics are told here (statistics_tables): it is of the target, and no history.
TABLES: dict[str, str] = {
    "policy": "only_row",
    "tenants": "login, tenant_id",
    "changes": "id",
    "approvals": "change_id, approver",
    "rate_slots": "id",
    "change_parts": "change_id, position",
    "bypasses": "id",
    "gate_verdicts": "change_id, guard",
    "change_stats": "change_id, phase",
    "query_stats": "id",
    "index_health": "id",
    "recordings": "what, system_identifier, database, tenant_id",
    "mutation_log": "seq",
    "chain_head": "only_row",
}
_FETCH = 500  # rows a round trip


@dataclass(frozen=True, slots=True)
class Header:
    """Whose control schema a file holds."""

    taken_at: str
    taken_by: str
    system_identifier: str
    database: str
    server_version: int
    chain_id: str
    seq: int
    hash: str
    multi_tenant: bool
    schema_version: int
    program: str
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Written:
    """What is in a file now."""

    header: Header
    rows: dict[str, int]
    sha256: str


async def write_backup(journal: Log, file: BinaryIO, settings: dict[str, Any]) -> Written:
    """Every row that the control schema has, as of one moment. Raises PrivilegeError for a login that does not see all."""
    session = journal.session
    out = _Lines(file)
    async with session.conn.transaction():
        # one snapshot for all tables. It holds up the build of an index in this database for as long as this takes
        await session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await session.execute("SET LOCAL TimeZone = 'UTC'")
        head = await journal.head()
        if not head.whole:
            user = clean_line(session.facts.session_user)
            raise PrivilegeError(
                f"{user} sees the rows of a tenant only, and a backup is of all of them",
                remedy=f"GRANT indexpilot_all_tenants TO {user}, or let somebody write it who has that",
            )
        moment = await session.row("SELECT pg_catalog.now()::text AS now, p.multi_tenant FROM indexpilot.policy p")
        if moment is None:
            raise NotInstalledError("the row of indexpilot.policy is missing")
        header = Header(
            moment["now"], session.facts.session_user, head.system_identifier, head.database, session.facts.server_version,
            head.chain_id, head.seq, head.hash, moment["multi_tenant"], SCHEMA_VERSION, __version__, settings,
        )  # fmt: skip
        out.write({"format": FORMAT} | {name: getattr(header, name) for name in Header.__slots__})
        for table, order in TABLES.items():
            await session.execute(
                sql.SQL(
                    "DECLARE backup NO SCROLL CURSOR FOR SELECT pg_catalog.row_to_json(t)::text AS row FROM indexpilot.{} t"
                    " ORDER BY {}"
                ).format(sql.Identifier(table), sql.SQL(order))
            )
            out.rows[table] = 0
            while page := await session.rows(f"FETCH {_FETCH} FROM backup"):
                for row in page:
                    out.write({"table": table, "row": json.loads(row["row"])})
                out.rows[table] += len(page)
            await session.execute("CLOSE backup")
    digest = out.sha256.hexdigest()
    out.write({"rows": out.rows, "sha256": digest})
    return Written(header, out.rows, digest)


@dataclass(slots=True)
class _Lines:
    """What was written so far."""

    file: BinaryIO
    rows: dict[str, int] = field(default_factory=dict)
    sha256: Any = field(default_factory=hashlib.sha256)

    def write(self, line: dict[str, Any]) -> None:
        data = json.dumps(line, ensure_ascii=True).encode() + b"\n"
        self.sha256.update(data)
        self.file.write(data)


class BackupFile:
    """Reads a file line by line. `header` is there from the beginning; `sha256` after `rows` came to its end, which it only
    does when nothing is missing, added or altered between the two."""

    def __init__(self, path: Path) -> None:
        self.path, self.sha256 = path, ""
        self._lines = self._read()
        first = next(self._lines, {})
        if first.pop("format", None) != FORMAT or set(first) != set(Header.__slots__):
            raise self._bad("is not a backup of a control schema, or of another version of this program")
        self.header = Header(**first)

    def _bad(self, why: str) -> UsageError:
        return UsageError(why, field="FILE", value=str(self.path))

    def _read(self) -> Iterator[dict[str, Any]]:
        digest = hashlib.sha256()
        try:
            with self.path.open("rb") as file:
                for number, data in enumerate(file, 1):
                    try:
                        line = json.loads(data.decode("ascii"))
                        if not isinstance(line, dict):
                            raise ValueError
                    except ValueError:
                        raise self._bad(f"line {number} is damaged") from None
                    if "sha256" in line and "format" not in line:
                        self.sha256 = digest.hexdigest()
                    digest.update(data)
                    yield line
        except OSError as exc:
            raise self._bad(f"cannot be read ({exc.strerror})") from None

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each table and row, tables in the order of TABLES. Raises UsageError for a file that is not whole."""
        counts, here, order = dict.fromkeys(TABLES, 0), 0, list(TABLES)
        for line in self._lines:
            if self.sha256:
                if line != {"rows": counts, "sha256": self.sha256} or next(self._lines, None) is not None:
                    raise self._bad("was altered after it was written: its SHA-256 or its count of rows does not fit")
                return
            table, row = line.get("table"), line.get("row")
            if table not in counts or not isinstance(row, dict) or order.index(table) < here:
                raise self._bad("holds a line that is no row of a control schema")
            here = order.index(table)
            counts[table] += 1
            yield table, row
        raise self._bad("is cut off: its last line is missing")
