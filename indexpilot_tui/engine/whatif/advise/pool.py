"""Candidate indexes on the shadow: made in one go, sized, hidden; then shown to the planner in any combination."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from indexpilot_tui.engine.whatif import hollow, sizes
from indexpilot_tui.engine.whatif.advise.candidate import Candidate
from indexpilot_tui.engine.whatif.advise.lane import Lane
from indexpilot_tui.engine.whatif.advise.making import make
from indexpilot_tui.engine.whatif.advise.masks import mask_of
from indexpilot_tui.engine.whatif.advise.planners import Planners
from indexpilot_tui.engine.whatif.advise.twin import Twin
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.expressions import derive
from indexpilot_tui.engine.whatif.made import MadeIndex
from indexpilot_tui.engine.whatif.shape import Share, mean_key_width, shape_of
from indexpilot_tui.engine.whatif.sizing import index_image, point, relation_path, write_file

# Bytes of a candidate by somebody else's model, in place of ours; B-trees have no height then, as HypoPG has them.
SizeOf = Callable[[Candidate, sizes.IndexShape], int]


@dataclass(slots=True)
class Entry:
    """A candidate as it is on the shadow. `oids` has the parts of a partitioned one too; sizes are bytes; `shape` is that
    of the largest part."""

    number: int
    candidate: Candidate
    names: tuple[str, ...]
    oids: tuple[int, ...]
    size: int
    shape: sizes.IndexShape
    rough: bool


class Pool:
    """The candidates of one advice. Numbers are positions in `entries`, in the order in which they came."""

    def __init__(self, shadow: ShadowDatabase, size_of: SizeOf | None) -> None:
        self.shadow = shadow
        self.entries: list[Entry] = []
        self.refused: dict[Candidate, str] = {}
        self.by_name: dict[str, int] = {}
        self._size_of = size_of
        self._known: set[Candidate] = set()
        self._roots: list[str] = []
        self._shares: dict[tuple[int, str], Share] = {}
        self.lane = Lane(shadow)
        self.planners = Planners([self.lane])
        self.twin: Twin | None = None
        self._serial = 0

    async def add(self, candidates: Iterable[Candidate]) -> list[int]:
        """Make the candidates that are not there yet; returns their numbers. What the server refuses is in `refused`."""
        new = [c for c in dict.fromkeys(candidates) if c not in self._known]
        self._known.update(new)
        tables = sorted({o for c in new for o in self._family(c.table)})
        if not tables:
            return []
        named: dict[str, Candidate] = {}
        for candidate in new:
            self._serial += 1
            named[f"indexpilot_{self._serial}"] = candidate
        relations = self.shadow.snapshot.relations
        statements = {n: sql.Composed([sql.SQL(c.ddl(relations[c.table], name=n))]) for n, c in named.items()}
        if self.twin is not None:
            self.twin.make(statements, tables)
        made, refused = await make(self.shadow, statements, tables)
        self.refused.update({named.pop(name): reason for name, reason in refused.items()})
        self._roots += [sql.Identifier(relations[c.table].schema, n).as_string(None) for n, c in named.items()]
        await self.shadow.rows("checkpoint")  # what was built goes to its file, which is read below
        return await self._size(named, made)

    def knows(self, candidate: Candidate) -> bool:
        """Whether it was added before, with success or not."""
        return candidate in self._known

    def _family(self, table: int) -> list[int]:
        """Shadow OIDs of a table and its partitions."""
        relations = self.shadow.snapshot.relations.values()
        children = [r.oid for r in relations if table in r.parents and r.is_partition]
        own = [self.shadow.oids[table]] if table in self.shadow.oids else []
        return own + [o for c in children for o in self._family(c)]

    async def _size(self, named: dict[str, Candidate], made: Sequence[MadeIndex]) -> list[int]:
        shadow = self.shadow
        by_oid = {s: t for t, s in shadow.oids.items()}
        roots = {m.table_oid: [] for m in made}  # type: dict[int, list[MadeIndex]]
        for m in made:
            roots[m.table_oid].append(m)
        parts = await self._parts(made)
        rows: list[tuple[int, int, int, float, int]] = []
        numbers: list[int] = []
        added: list[list[MadeIndex]] = []
        work: list[tuple[MadeIndex, sizes.SizeEstimate, sizes.IndexShape]] = []
        for m in made:
            candidate = named.get(m.name)
            if candidate is None:
                continue
            members = [m, *parts.get(m.oid, ())]
            total, rough, largest = 0, False, None
            for part in members:
                if part.partitioned:
                    continue
                owner = by_oid[part.table_oid]
                derived, _notes = await derive(shadow, part, shadow.snapshot.relations[owner])
                shape, _reasons = await shape_of(shadow, part, owner, derived, self._shares)
                size = sizes.estimate(shape)
                if self._size_of is not None:
                    pages = max(2, self._size_of(candidate, shape) // sizes.PAGE)
                    size = sizes.SizeEstimate(pages, "given", size.rough, size.entries, size.entry_pages)
                work.append((part, size, shape))
                total, rough = total + size.size_bytes, rough or size.rough
                largest = shape if largest is None or shape.rows > largest.rows else largest
            if largest is None:
                self.refused[candidate] = "the table has no partition to index"
                continue
            entry = Entry(
                len(self.entries), candidate, tuple(x.name for x in members), tuple(x.oid for x in members), total, largest,
                rough,
            )  # fmt: skip
            self.entries.append(entry)
            numbers.append(entry.number)
            added.append(members)
            self.lane.oids.append(entry.oids)
            self.by_name.update(dict.fromkeys(entry.names, entry.number))
            await asyncio.sleep(0)  # the twin is made meanwhile
        files = await asyncio.to_thread(self._write, work)
        rows = [(m.oid, f, s.pages, shape.rows, 0) for (m, s, shape), f in zip(work, files, strict=True)]
        if rows:
            await point(shadow, rows)
        if self.twin is not None:
            files_of = [(m, f, s.pages, shape.rows) for (m, s, shape), f in zip(work, files, strict=True)]
            self.twin.size(files_of, added)
            self.planners.lanes[1:] = [await self.twin.ready()]
        return numbers

    async def _parts(self, made: Sequence[MadeIndex]) -> dict[int, list[MadeIndex]]:
        """The indexes of partitions under each partitioned index, at every level."""
        rows = await self.shadow.rows(
            "select h.inhrelid::int8 as child, h.inhparent::int8 as parent from pg_inherits h"
            " where h.inhrelid = any(%s::oid[])", ([m.oid for m in made],),
        )  # fmt: skip
        by_oid = {m.oid: m for m in made}
        children: dict[int, list[int]] = {}
        for r in rows:
            children.setdefault(r["parent"], []).append(r["child"])

        def below(oid: int) -> list[MadeIndex]:
            return [x for c in sorted(children.get(oid, ())) for x in (by_oid[c], *below(c))]

        return {m.oid: below(m.oid) for m in made if m.partitioned}

    def _write(self, work: Sequence[tuple[MadeIndex, sizes.SizeEstimate, sizes.IndexShape]]) -> list[int]:
        files = []
        for m, size, shape in work:
            if m.method == "btree" and self._size_of is not None:
                image = hollow.heightless_btree_image()
            elif m.method == "gin":
                built = relation_path(self.shadow, m.file).read_bytes()
                image = hollow.gin_image(built, size.pages, size.entries, size.entry_pages)
            else:
                image = index_image(self.shadow, m.method, m.file, size.pages, mean_key_width(shape), shape.heap_pages)
            files.append(write_file(self.shadow, image, size.pages, instead_of=m.file))
        return files

    async def show(self, wanted: Collection[int]) -> None:
        """Let the shadow's own planner see exactly these candidates."""
        await self.lane.show(mask_of(wanted))

    async def close(self) -> None:
        """Take every candidate away again, and the twin."""
        if self.twin is not None:
            await self.twin.close()
        await self.lane.show(0)
        await self.lane.close()
        for start in range(0, len(self._roots), 200):
            names = ", ".join(self._roots[start : start + 200])
            await self.shadow.rows(sql.Composed([sql.SQL(f"drop index if exists {names}")]))
        self._roots.clear()
