"""A control schema on one connection, on which each case runs as whoever it is about and is taken back afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import DictRow, dict_row

from indexpilot_tui.engine.journal.records import canonical
from indexpilot_tui.engine.model.change import Plan
from tests.engine.journal_room import CLUSTER, Room, make_plan

REQUESTER, APPROVER, SECOND, OTHER = "j_alice", "j_bob", "j_zoe", "j_olga"
EPOCH, OID = 3, 77
STALE = "IX001"


@dataclass
class Bench:
    """One administrator's connection. `case` is a transaction that is rolled back; `as_` makes session_user somebody else, as
    a login of theirs would."""

    conn: psycopg.Connection[DictRow]

    @classmethod
    def of(cls, room: Room) -> Bench:
        conn = psycopg.connect(room.cluster.conninfo(room.dbname), row_factory=dict_row, autocommit=True)
        return cls(conn)

    @contextmanager
    def case(self) -> Iterator[None]:
        with self.conn.transaction(force_rollback=True):
            yield

    def call(self, who: str, function: str, *args: Any) -> tuple[Any, str]:
        """What a function of the control schema gives to this login, and the code with which it refuses (empty: it did not).
        A refusal leaves nothing behind, so the case goes on."""
        names = sql.SQL(", ").join([sql.Placeholder()] * len(args))
        query = sql.SQL("select {}({}) as answer").format(sql.Identifier("indexpilot", function), names)
        try:
            with self.conn.transaction():
                self.conn.execute(sql.SQL("set local session authorization {}").format(sql.Identifier(who)))
                row = self.conn.execute(query, args).fetchone()
                self.conn.execute("reset session authorization")
        except psycopg.Error as exc:
            self.conn.execute("reset session authorization")
            return None, self._code(exc)
        assert row is not None
        return row["answer"], ""

    @staticmethod
    def _code(exc: psycopg.Error) -> str:
        if exc.sqlstate == "IX002":
            return str(json.loads(exc.diag.message_detail or "{}")["code"])
        return str(exc.sqlstate)

    def row(self, change_id: int) -> DictRow:
        row = self.conn.execute("select * from indexpilot.changes where id = %s", (change_id,)).fetchone()
        assert row is not None
        return row

    def value(self, query: str, *args: Any) -> Any:
        row = self.conn.execute(query.encode(), args or None).fetchone()
        assert row is not None
        return next(iter(row.values()))

    def head(self) -> tuple[int, str]:
        row = self.conn.execute("select seq, hash from indexpilot.chain_head").fetchone()
        assert row is not None
        return row["seq"], row["hash"]

    def propose(self, plan: Plan | None = None, parent: int | None = None, *, rollback: bool = False) -> int:
        answer, code = self.call(REQUESTER, "propose", canonical(plan or make_plan()), "prod", "slow", parent, rollback)
        assert code == ""
        return int(answer)

    def approve(self, change_id: int, hours: float = 24.0) -> None:
        args = (change_id, self.row(change_id)["plan_sha256"], timedelta(hours=hours))
        assert self.call(APPROVER, "approve", *args)[1] == ""

    def put(self, change_id: int, state: str, **columns: Any) -> None:
        """Set a change down in a state, as an administrator could."""
        values = {"state": state, "epoch": EPOCH} | columns
        if "claimed_by" in columns:
            values["claimed_by_oid"] = self.value(
                "select oid::bigint from pg_roles where rolname = %s", columns["claimed_by"]
            )
        for name, value in values.items():
            query = sql.SQL("update indexpilot.changes set {} = %s where id = %s").format(sql.Identifier(name))
            self.conn.execute(query, (value, change_id))

    def terms(self, change_id: int) -> tuple[Any, ...]:
        """Arguments of a claim that nothing but the state of the change can refuse."""
        return (change_id, CLUSTER, 1, 1000, 3600.0, 30.0)
