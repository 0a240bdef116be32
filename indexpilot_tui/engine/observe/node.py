"""Which server is looked at, and what became of it between two sessions: a failover, a promotion, another machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from indexpilot_tui.engine.postgres.session import Facts


class Node(NamedTuple):
    """One server process's own: a failover or a promotion shows in it. A restart does not: it shows in the pulse."""

    timeline: int
    in_recovery: bool
    address: str


@dataclass(slots=True)
class Looked:
    """The server, database and login that are looked at."""

    identity: tuple[str, int, str] | None = None
    node: Node | None = None
    backend: int = 0

    def adopt(self, facts: Facts) -> tuple[bool, str]:
        """Take the facts of a session in: whether nothing of before counts any more, and what became of the server."""
        identity = (facts.system_identifier, facts.database_oid, facts.session_user)
        node = Node(facts.timeline, facts.in_recovery, f"{facts.host}:{facts.port}")
        anew = identity != self.identity
        before, self.identity, self.node = self.node, identity, node
        return anew, "" if anew or before is None or before == node else succession(before, node)


def succession(before: Node, now: Node) -> str:
    """What became of the server."""
    if now.timeline != before.timeline:
        where = "" if now.address == before.address else f" at {now.address}"
        return f"failover: the primary{where} is on timeline {now.timeline}, was on {before.timeline}"
    if now.in_recovery != before.in_recovery:
        return "this server is a standby now" if now.in_recovery else "this server was promoted: it is a primary now"
    return f"another server answers: {now.address}, was {before.address}"
