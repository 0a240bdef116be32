"""Candidate indexes on the shadow: made in one go, sized, hidden; then shown to the planner in any combination."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif import hollow, index, sizes
from indexpilot_tui.engine.whatif.advise.candidate import Candidate
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.expressions import derive
from indexpilot_tui.engine.whatif.made import MadeIndex
from indexpilot_tui.engine.whatif.shape import mean_key_width, shape_of
from indexpilot_tui.engine.whatif.sizing import current_files, index_image, point, read_file, write_file

# Bytes of a candidate by somebody else's model, in place of ours; B-trees have no height then, as HypoPG has them.
SizeOf = Callable[[Candidate, sizes.IndexShape], int]
_SHOW = b"update pg_index set indisvalid = (indexrelid = any(%s::oid[])) where indexrelid = any(%s::oid[])"
TOGETHER = 40  # candidates that are made in one round trip
_STATE = """
select oid::int8 as oid, relpages, reltuples::float8 as reltuples, relallvisible from pg_class where oid = any(%s::oid[])
"""


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
        self._shown: frozenset[int] = frozenset()
        self._serial = 0

    async def add(self, candidates: Iterable[Candidate]) -> list[int]:
        """Make the candidates that are not there yet; returns their numbers. What the server refuses is in `refused`."""
        new = [c for c in dict.fromkeys(candidates) if c not in self._known]
        self._known.update(new)
        tables = sorted({o for c in new for o in self._family(c.table)})
        if not tables:
            return []
        shadow = self.shadow
        sized = await current_files(shadow, tables)
        state = {r["oid"]: (r["relpages"], r["reltuples"], r["relallvisible"]) for r in await shadow.rows(_STATE, (tables,))}
        stored = [t for t in tables if shadow.empty_files.get(t)]
        before = [r["oid"] for r in await shadow.rows(
            "select indexrelid::int8 as oid from pg_index where indrelid = any(%s::oid[])", (tables,))]  # fmt: skip
        await point(shadow, [(t, shadow.empty_files[t], 0, -1.0, 0) for t in stored])
        try:
            named = await self._create(new)
        finally:
            await point(shadow, [(t, sized[t], *state[t]) for t in stored])
        made = await index.describe(shadow, tables, before)
        await index.switch(shadow, [m.oid for m in made], on=False)
        await shadow.rows("checkpoint")
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

    async def _create(self, new: Sequence[Candidate]) -> dict[str, Candidate]:
        named: dict[str, Candidate] = {}
        batch: list[tuple[str, Candidate, sql.Composed]] = []
        for candidate in new:
            self._serial += 1
            name = f"indexpilot_{self._serial}"
            ddl = candidate.ddl(self.shadow.snapshot.relations[candidate.table], name=name)
            batch.append((name, candidate, sql.Composed([sql.SQL(ddl)])))
        await self.shadow.plain.execute(b"set search_path = pg_catalog, public")
        self.shadow.search_path = ("pg_catalog", "public")
        schemas = sorted({s for _, s in self.shadow.snapshot.server.extensions} - {"pg_catalog", "public"})
        if schemas:  # operator classes of extensions
            path = ("pg_catalog", "public", *schemas)
            await self.shadow.plain.execute(
                sql.SQL("set search_path = {}").format(sql.SQL(", ").join(sql.Identifier(p) for p in path))
            )
            self.shadow.search_path = path
        for start in range(0, len(batch), TOGETHER):
            await self._make(batch[start : start + TOGETHER], named)
        return named

    async def _make(self, batch: Sequence[tuple[str, Candidate, sql.Composed]], named: dict[str, Candidate]) -> None:
        """Make some in one round trip and one transaction of the server's; one by one when it refuses any of them."""
        try:
            async with self.shadow.plain.pipeline():
                for _, _, statement in batch:
                    await self.shadow.foreign(statement)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as exc:
            if len(batch) > 1:
                for one in batch:
                    await self._make([one], named)
            else:
                self.refused[batch[0][1]] = clean_line(exc.diag.message_primary or str(exc), 200)
            return
        for name, candidate, _ in batch:
            named[name] = candidate
            self._roots.append(sql.Identifier(self.shadow.snapshot.relations[candidate.table].schema, name).as_string(None))

    async def _size(self, named: dict[str, Candidate], made: Sequence[MadeIndex]) -> list[int]:
        shadow = self.shadow
        by_oid = {s: t for t, s in shadow.oids.items()}
        roots = {m.table_oid: [] for m in made}  # type: dict[int, list[MadeIndex]]
        for m in made:
            roots[m.table_oid].append(m)
        parts = await self._parts(made)
        rows: list[tuple[int, int, int, float, int]] = []
        numbers: list[int] = []
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
                shape, _reasons = await shape_of(shadow, part, owner, derived)
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
            self.by_name.update(dict.fromkeys(entry.names, entry.number))
        files = await asyncio.to_thread(self._write, work)
        rows = [(m.oid, f, s.pages, shape.rows, 0) for (m, s, shape), f in zip(work, files, strict=True)]
        if rows:
            await point(shadow, rows)
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
                built = read_file(self.shadow, m.file)
                image = hollow.gin_image(built, size.pages, size.entries, size.entry_pages)
            else:
                image = index_image(self.shadow, m.method, m.file, size.pages, mean_key_width(shape), shape.heap_pages)
            files.append(write_file(self.shadow, image, size.pages))
        return files

    async def show(self, wanted: Collection[int]) -> None:
        """Let the planner see exactly these candidates."""
        target = frozenset(wanted)
        changed = [o for n in sorted(target ^ self._shown) for o in self.entries[n].oids]
        if changed:
            shown = [o for n in sorted(target) for o in self.entries[n].oids]
            await self.shadow.power.execute(_SHOW, (shown, changed), prepare=True)  # more than a thousand times in an advice
            self._shown = target

    async def close(self) -> None:
        """Take every candidate away again."""
        for start in range(0, len(self._roots), 200):
            names = ", ".join(self._roots[start : start + 200])
            await self.shadow.foreign(sql.Composed([sql.SQL(f"drop index if exists {names}")]))
        self._roots.clear()
