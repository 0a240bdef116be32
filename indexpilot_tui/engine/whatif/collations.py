"""The collations of a target on the shadow: the same where this machine has it, else one that sorts as near as there is."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.whatif.database import ShadowDatabase
from indexpilot_tui.engine.whatif.snapshot import Collation, Snapshot

_EVERYWHERE = {("pg_catalog", n) for n in ("default", "C", "POSIX", "ucs_basic")}


def named(snapshot: Snapshot) -> list[Collation]:
    """Those that columns, domains and indexes name, and that a database need not have."""
    found = {c.collation for r in snapshot.relations.values() for c in r.columns if c.collation is not None}
    found |= {t.collation for t in snapshot.types if t.collation is not None}
    found |= {c for i in snapshot.indexes.values() for c in i.collations} | set(snapshot.server.collations)
    wanted = [c for c in found if (c.schema, c.name) not in _EVERYWHERE]
    return sorted(wanted, key=lambda c: (c.schema, c.name))


def _ways(c: Collation) -> Iterator[tuple[str, sql.Composed]]:
    """How it may be made (what it then sorts by, '' where that is what the target sorts by), best first."""
    locale = sql.Literal(c.locale)
    if c.provider == "i":
        deterministic = sql.SQL("true" if c.deterministic else "false")
        yield "", sql.SQL("provider = icu, locale = {}, deterministic = {}").format(locale, deterministic)
    if c.provider == "b":  # sorts by code point, whatever its name
        yield "", sql.SQL("provider = builtin, locale = {}").format(locale)
        yield "", sql.SQL("provider = libc, locale = 'C'").format()
    if c.provider == "c" and c.locale:
        yield "", sql.SQL("provider = libc, locale = {}").format(locale)
    for instead in ("C.UTF-8", "C.utf8", "C"):
        yield instead, sql.SQL("provider = libc, locale = {}").format(sql.Literal(instead))


async def make(shadow: ShadowDatabase) -> None:
    """Make those that the shadow lacks; what sorts by another locale there is an issue."""
    rows = await shadow.rows(
        "select n.nspname::text as s, c.collname::text as n"
        "  from pg_collation c join pg_namespace n on n.oid = c.collnamespace"
        " where c.collencoding in (-1, (select encoding from pg_database where datname = current_database()))"
    )
    have = {(r["s"], r["n"]) for r in rows}
    for c in named(shadow.snapshot):
        if (c.schema, c.name) in have:
            continue
        for instead, how in _ways(c):
            statement = sql.SQL("create collation {} ({})").format(sql.Identifier(c.schema, c.name), how)
            try:
                await shadow.foreign(statement)
            except psycopg.Error:
                continue  # this machine lacks the locale or the provider: the next one
            if instead:
                shadow.issues.append(
                    f"collation {clean_line(c.name)} ({clean_line(c.locale) or 'no locale'}): the shadow sorts by {instead} "
                    "in its place, so estimates for ranges of text may differ"
                )
            break
        else:
            shadow.issues.append(f"collation {clean_line(c.name)}: the shadow does not have it")
