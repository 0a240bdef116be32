"""A planner with a database of its own: which candidates it sees is a matter of that database's catalog."""

from __future__ import annotations

import json
import re
from collections.abc import Collection

import psycopg

from indexpilot_tui.engine.whatif.advise.masks import numbers_of
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.plan import GENERIC_PLAN, Plan, explain_text, set_path
from indexpilot_tui.engine.whatif.wire import Wire

Question = tuple[str, bool, tuple[str, ...]]  # text, whether it has parameters, search_path
_SHOW = b"update pg_index set indisvalid = (indexrelid = any($1::oid[])) where indexrelid = any($2::oid[])"
# A quote inside a JSON string is escaped, so these match names and costs of nodes only; the root's cost comes first.
_INDEX = re.compile(rb'"Index Name": "((?:[^"\\]|\\.)*)"')
_COST = re.compile(rb'"Total Cost": ([0-9.]+)')


class Told:
    """What an EXPLAIN said: the cost, and the names of the indexes in the plan; the plan itself when it is looked at."""

    def __init__(self, text: bytes | None) -> None:
        self._text = text or b""
        found = _COST.search(self._text)
        if found is None:
            raise psycopg.DataError("EXPLAIN gave no cost")
        self.cost = float(found[1])

    def names(self) -> set[str]:
        return {json.loads(b'"' + name + b'"') for name in set(_INDEX.findall(self._text))}

    def plan(self) -> Plan:
        plan: Plan = json.loads(self._text)[0]["Plan"]
        return plan


class Lane:
    """`oids` has those of each candidate, in this database."""

    def __init__(self, shadow: ShadowDatabase) -> None:
        self.shadow = shadow
        self.oids: list[tuple[int, ...]] = []
        self.shown = 0
        self._power, self._plain = Wire(shadow.power), Wire(shadow.plain)

    async def show(self, wanted: int) -> None:
        """Let the planner see exactly these candidates. Raises psycopg.Error."""
        changed = [o for n in numbers_of(wanted ^ self.shown) for o in self.oids[n]]
        if changed:
            shown = [o for n in numbers_of(wanted) for o in self.oids[n]]
            await self._power.ask(_SHOW, (_array(shown), _array(changed)))
            self.shown = wanted

    async def explain(self, question: Question) -> Told:
        """Raises psycopg.Error."""
        text, generic, path = question
        await set_path(self.shadow, path)
        if not generic:
            return Told(await self._plain.ask(f"explain (format json) {text}".encode()))
        if self.shadow.cluster.version >= GENERIC_PLAN:  # a text with parameters was written by the deparser: it is one
            return Told(await self._plain.simple(f"explain (generic_plan, format json) {text}".encode()))
        return Told(json.dumps([{"Plan": await explain_text(self.shadow, text, generic=True)}]).encode())

    async def close(self) -> None:
        """Give the sessions back as they were. Raises psycopg.Error."""
        await self._plain.close()
        await self._power.close()


def _array(oids: Collection[int]) -> bytes:
    return ("{" + ",".join(map(str, oids)) + "}").encode()
