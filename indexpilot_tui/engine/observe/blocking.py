"""Who waits for whom, and what it would take to free them: the tree of blockers from what the server says of its sessions
and locks. Pure; nothing is ever ended from here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from indexpilot_tui.engine.observe.blocking_model import (
    Blocked,
    Blocking,
    Holder,
    SessionRow,
    prepared_row,
    running_row,
    session_row,
)
from indexpilot_tui.engine.postgres.text import clean_line

HOLDS_S = 5.0  # a transaction that is younger holds nobody up


@dataclass(slots=True)
class _Locks:
    """What each session wants and has, in words; by pid, of a prepared transaction by minus its number."""

    wants: dict[int, tuple[str, float | None]] = field(default_factory=dict)
    holds: dict[int, list[str]] = field(default_factory=dict)
    holders: dict[str, set[int]] = field(default_factory=dict)


def blocking_of(
    at: datetime,
    sessions: Iterable[Mapping[str, Any]],
    locks: Iterable[Mapping[str, Any]],
    prepared: Iterable[Mapping[str, Any]],
    progress: Iterable[Mapping[str, Any]],
    unread: Sequence[str] = (),
) -> Blocking:
    """One look, from the rows of its four questions."""
    rows = list(sessions)
    known = {row["pid"]: session_row(row) for row in rows if not row["hidden"] or row["blocked_by"]}
    known |= {p.pid: p for p in map(prepared_row, prepared)}
    held = _locks(locks)
    edges = _edges(known, held)
    tree = tuple(_tree(known, edges, held))
    shown = {line.session.pid for line in tree}
    holders = [h for s in known.values() if s.pid not in shown and (h := _holder(s)) is not None]
    holders.sort(key=lambda h: -(h.session.xact_s or 0.0))
    return Blocking(
        at=at,
        tree=tree,
        holders=tuple(holders),
        running=tuple(running_row(row) for row in progress),
        hidden=sum(1 for row in rows if row["hidden"]),
        unread=tuple(unread),
    )


def _locks(rows: Iterable[Mapping[str, Any]]) -> _Locks:
    found = _Locks()
    for row in rows:
        pid = row["pid"] if row["pid"] is not None else -int(row["prepared"] or 0)
        place = _object(row)
        words = f"{clean_line(row['mode'])} on {place}"
        if row["granted"]:
            found.holds.setdefault(pid, []).append(words)
            found.holders.setdefault(place, set()).add(pid)
        else:
            found.wants[pid] = (words, row["waits_s"])
    return found


def _object(row: Mapping[str, Any]) -> str:
    relation = row["relation"] or (f"relation {row['relation_oid']} of another database" if row["relation_oid"] else "")
    words = {
        "relation": relation,
        "transactionid": f"the end of transaction {row['object']}",
        "virtualxid": f"the end of transaction {row['object']}",
        "tuple": f"row ({row['page']},{row['tuple']}) of {relation}",
        "page": f"page {row['page']} of {relation}",
        "extend": f"the growing of {relation}",
    }
    return clean_line(words.get(row["kind"]) or f"{row['kind']} {row['object']}".strip(), 200)


def _edges(known: Mapping[int, SessionRow], held: _Locks) -> dict[int, list[int]]:
    """By waiter: those it waits for. 0 means a prepared transaction: the one that has what it wants."""
    edges: dict[int, list[int]] = {}
    for session in known.values():
        if not session.blocked_by:
            continue
        found = [pid for pid in session.blocked_by if pid and pid != session.pid]
        if 0 in session.blocked_by:
            place = held.wants.get(session.pid, ("", None))[0].partition(" on ")[2]
            found += sorted(pid for pid in held.holders.get(place, ()) if pid < 0)
        edges[session.pid] = found
    return edges


def _tree(known: Mapping[int, SessionRow], edges: Mapping[int, list[int]], held: _Locks) -> Iterable[Blocked]:
    waiters: dict[int, list[int]] = {}
    for pid, blockers in edges.items():
        for blocker in blockers or [0]:
            waiters.setdefault(blocker, []).append(pid)
    frees = {pid: len(_behind(pid, waiters)) for pid in waiters}
    roots = sorted((pid for pid in waiters if not edges.get(pid)), key=lambda pid: (-frees[pid], pid))
    placed: set[int] = set()
    # a ring has no root: until the server has broken the deadlock, one of it stands for all
    for root in [*roots, *sorted(edges)]:
        stack = [] if root in placed else [(root, 0)]
        while stack:
            pid, depth = stack.pop()
            if pid in placed:
                continue
            placed.add(pid)
            session = known.get(pid) or _unknown(pid)
            wants, waits_s = held.wants.get(pid, ("", None))
            parents = edges.get(pid, [])
            yield Blocked(
                session=session,
                depth=depth,
                frees=frees.get(pid, 0),
                wants=wants,
                holds="; ".join(dict.fromkeys(held.holds.get(pid, ())))[:400],
                waits_s=waits_s if waits_s is not None else session.query_s if wants else None,
                also=tuple(parents[1:]),
                remedy=remedy(session) if not parents else f"it waits itself: free pid {parents[0]} first",
            )
            stack += [(waiter, depth + 1) for waiter in sorted(waiters.get(pid, ()), reverse=True)]


def _behind(pid: int, waiters: Mapping[int, list[int]]) -> set[int]:
    """All that wait for it, through others, too."""
    found: set[int] = set()
    left = list(waiters.get(pid, ()))
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += waiters.get(one, ())
    return found - {pid}


def _unknown(pid: int) -> SessionRow:
    what = "(not visible to this role, or ended just now)" if pid else "(a prepared transaction)"
    return SessionRow(pid, "", "", "", "", "", "", "", what, None, None, None, None)


def _holder(session: SessionRow) -> Holder | None:
    """Why it is worth a look although it blocks nobody; None where it is not."""
    age = session.xact_s or 0.0
    why = ""
    if session.prepared:
        why = "prepared, waits for COMMIT PREPARED"
    elif session.idle_in_transaction and (session.state_s or 0.0) >= HOLDS_S:
        why = "idle in transaction"
    elif session.kind == "walsender" and session.xmin_age is not None:
        why = "feedback of a standby"
    elif session.xmin_age is not None and age >= HOLDS_S and session.kind != "autovacuum worker":
        why = "old snapshot"
    if not why:
        return None
    if session.xmin_age is not None and why != "old snapshot":
        why += ", holds a snapshot"
    return Holder(session, why, remedy(session))


def remedy(session: SessionRow) -> str:
    """What would free those who wait for it, or what it holds. To be done by a person, elsewhere."""
    if session.prepared:
        return (
            f"COMMIT PREPARED {session.prepared} or ROLLBACK PREPARED {session.prepared}, in database {session.database}, "
            f"as {session.user} or a superuser"
        )
    if session.pid <= 0 or not session.kind:
        return "a role with pg_monitor sees who it is"
    end = f"SELECT pg_terminate_backend({session.pid})"
    rights = f"needs membership in {session.user} or pg_signal_backend (a superuser's session: a superuser)"
    if session.application.startswith(("ixp:", "ixp-eye:")):
        return "a build of an IndexPilot console: it gives way by itself; key c lists it, its own screen stops it"
    if session.kind == "autovacuum worker":
        if "to prevent wraparound" in session.query:
            return "it guards against wraparound and does not give way: let it end, or it comes again"
        return "it gives way by itself after deadlock_timeout, when somebody wants a lock"
    if session.kind == "walsender":
        return "the standby's own queries hold it: end them there, or switch hot_standby_feedback off there"
    if session.idle_in_transaction or session.state == "idle":
        client = session.application or "its client"
        where = f" at {session.client}" if session.client else ""
        wanted = "free its session locks" if session.state == "idle" else "COMMIT or ROLLBACK"
        return f"{client}{where} must {wanted}; else {end}, which rolls back what it did; {rights}"
    cancel = f"SELECT pg_cancel_backend({session.pid})"
    return f"{cancel} ends its statement and frees its locks (behind a savepoint: {end}); {rights}"
