"""A good bundle, what may be wrong in one field of it, and what must not have come of it."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from indexpilot_tui.engine.whatif.bundle.file import read_bundle, write_bundle
from indexpilot_tui.engine.whatif.bundle.model import Bundle
from indexpilot_tui.engine.whatif.bundle.session import BundleSession
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.errors import IndexPilotError

MARK = "ixp_mark"  # a table that nothing but a statement of the bundle's would make
SCHEMA = """
create schema app;
create type app.mood as enum ('sad', 'ok'); create domain app.percent as int check (value between 0 and 100);
create type app.pair as (a int, b text); create type app.span as range (subtype = int4);
create collation app.coll (provider = libc, locale = 'C');
create function app.norm(text) returns text immutable language sql as $$ select lower($1) || 'x' $$;
create function app.code(int) returns int immutable language plpgsql as 'begin return $1 % 10; end';
create table app.t (id int primary key, word text collate app.coll, m app.mood, p app.percent, q app.pair, s app.span,
  tags text[], at timestamptz default now(), twice int generated always as (id * 2) stored, check (p >= 0));
insert into app.t (id, word, m, p, q, s, tags)
  select g, 'w' || g % 50, 'ok', g % 100, row(g, 'x'::text)::app.pair, int4range(g, g + 5)::text::app.span, array['t' || g % 5]
  from generate_series(1, 5000) g;
create index t_word on app.t (lower(word)); create index t_norm on app.t (app.norm(word)); create index t_code on app.t (app.code(p));
create statistics app.st (ndistinct, dependencies, mcv) on p, word from app.t;
create view app.v as select id, word from app.t where p > 5;
create table app.part (id int, at date not null) partition by range (at);
create table app.part_a partition of app.part for values from ('2024-01-01') to ('2025-01-01');
insert into app.part select g, date '2024-01-01' + g % 300 from generate_series(1, 3000) g;
create table app.child (id int references app.t); create index on app.child (id);
"""
DDL = "create index new_ix on app.t (p)"
QUERIES = (
    "select * from app.t where p = 7", "select * from app.v where word = 'w5'", "select * from app.t where app.norm(word) = 'w5x'",
    "select * from app.part where at = '2024-03-01'", "select * from app.t where lower(word) = 'w7' and m = 'sad'",
)  # fmt: skip
MAKE = f"create table public.{MARK}()"
CALL = f"(select pg_notify('{MARK}', 'called'))"
Change = Callable[[Bundle], None]


def _set(question: str, fields: str, value: Any, **where: Any) -> Change:
    """Give a field (or several, by commas) of the matching rows another value."""

    def change(bundle: Bundle) -> None:
        hit = [r for r in bundle.answers[question] if all(r.get(k) == v for k, v in where.items())]
        assert hit, (question, where)
        for row in hit:
            for name in fields.split(","):
                assert name in row, (question, name)
                row[name] = value(row[name]) if callable(value) else value

    return change


def _text(old: str) -> Iterator[tuple[str, Any]]:
    """Texts in the place of a definition that would do something if they were sent as they are."""
    yield "second statement", lambda text: f"{text}; {MAKE}"
    yield "another statement", MAKE
    yield "comment that hides the rest", lambda text: f"{text}; {MAKE} --"
    yield "unclosed", lambda text: f"{text}) ("
    yield "subquery", CALL
    del old


def hostile() -> Iterator[tuple[str, Change]]:
    """At least 40 fields, each with a name."""
    for kind, value in _text("index"):
        yield f"index: {kind}", _set("whatif/indexes", "definition", value, name="t_word")
    yield "index on a call", _set("whatif/indexes", "definition", f"create index t_word on app.t (({CALL}))", name="t_word")
    yield (
        "index elsewhere",
        _set("whatif/indexes", "definition", "create index t_word on pg_catalog.pg_class (relname)", name="t_word"),
    )
    yield (
        "index with IF NOT EXISTS",
        _set("whatif/indexes", "definition", "create index if not exists t_word on app.t (id)", name="t_word"),
    )
    yield (
        "index in a tablespace",
        _set("whatif/indexes", "definition", "create index t_word on app.t (id) tablespace pg_global", name="t_word"),
    )
    yield (
        "index by another method",
        _set("whatif/indexes", "definition", "create index t_word on app.t using nosuch (id)", name="t_word"),
    )
    for kind, value in (("", f"check (true); {MAKE}"), (" with a second command", "check (true), drop column word"),
                        (" with a subquery", f"check ({CALL} is null)"), (" using an index", "unique using index t_word")):  # fmt: skip
        yield f"constraint{kind}", _set("whatif/constraints", "definition", value, kind="c")
    yield "foreign key", _set("whatif/constraints", "definition", f"foreign key (id) references app.t(id); {MAKE}", kind="f")
    yield "key", _set("whatif/relations", "part_key", f"range (at); {MAKE}", name="part")
    yield "key with more", _set("whatif/relations", "part_key", "range (at) with (fillfactor = 10)", name="part")
    yield "bound", _set("whatif/relations", "bound", f"default; {MAKE}", name="part_a")
    yield (
        "bound with a subquery",
        _set("whatif/relations", "bound", f"for values from ({CALL}) to (maxvalue)", name="part_a"),
    )
    for kind, value in (("", f"select 1 as id, 'x' as word; {MAKE}"), (" that writes", f"select id, word into public.{MARK} from app.t"),
                        (" with a DELETE", "with x as (delete from app.t returning id, word) select * from x")):  # fmt: skip
        yield f"view{kind}", _set("whatif/relations", "view", value, name="v")
    yield "options", _set("whatif/relations", "reloptions", [f"fillfactor=10); {MAKE}; --"], name="t")
    yield "option out of range", _set("whatif/relations", "reloptions", ["fillfactor=9999", "parallel_workers=-3"], name="t")
    yield "persistence", _set("whatif/relations", "kind", "x", name="t")
    yield "parents in a circle", _set("whatif/relations", "parents", lambda p: p and [*p, *p], name="part_a")
    yield "column type", _set("whatif/columns", "type", f"int); {MAKE}; --", name="word")
    yield "column type of a table", _set("whatif/columns", "type", "app.t", name="word")
    yield "column name", _set("whatif/columns", "name", f'a" int); {MAKE}; --', name="tags")
    yield "column name of 100 kB", _set("whatif/columns", "name", "x" * 100_000, name="tags")
    yield "column number", _set("whatif/columns", "number", -1_000_000, name="tags")
    yield "default", _set("whatif/columns", "default", f"now(); {MAKE}", name="at")
    yield "default with a subquery", _set("whatif/columns", "default", CALL, name="at")
    yield "generated", _set("whatif/columns", "expression", f"id) stored); {MAKE}; --", name="twice")
    yield (
        "generated by a call",
        _set("whatif/columns", "expression", f"length(pg_catalog.set_config('a.b', 'c', false)) + {CALL}", name="twice"),
    )
    yield "domain", _set("whatif/types", "base", f"int; {MAKE}", name="percent")
    yield "domain with a check", _set("whatif/types", "base", "int check (value > 0)", name="percent")
    yield "enum label", _set("whatif/types", "labels", [f"a'); {MAKE}; --", "ok"], name="mood")
    yield "composite", _set("whatif/types", "attribute_types", [f"int); {MAKE}; --", "text"], name="pair")
    yield "range", _set("whatif/types", "subtype", f"int4, subtype_diff = {MARK}", name="span")
    yield "type name", _set("whatif/types", "name", 'x"; drop', name="mood")
    yield "function body", _set("whatif/functions", "body,definition", f"select 1::text; {MAKE}", name="norm")
    yield (
        "function body that calls",
        _set("whatif/functions", "body,definition", f"select pg_notify('{MARK}', 'x')::text", name="norm"),
    )
    yield (
        "function arguments",
        _set("whatif/functions", "arguments", f"text) returns text language sql as 'select 1'; {MAKE}; --", name="code"),
    )
    yield "function default", _set("whatif/functions", "arguments", f"a integer default {CALL}", name="code")
    yield (
        "function result",
        _set("whatif/functions", "result", f"integer language plpgsql as 'begin end'; {MAKE}; --", name="code"),
    )
    yield "function language", _set("whatif/functions", "language", "c", name="code")
    yield "function cost", _set("whatif/functions", "cost", 1e308, name="code")
    yield "function called as a built-in", _set("whatif/functions", "schema,name", "lower", name="norm")
    yield "statistics", _set("whatif/extended", "definition", f"create statistics app.st on p, word from app.t; {MAKE}")
    yield (
        "statistics of a subquery",
        _set("whatif/extended", "definition", f"create statistics app.st on p, ({CALL}) from app.t"),
    )
    yield "statistics bytes", _set("whatif/extended", "ndistinct,dependencies", b"\x00" * 40)
    yield "statistics value", _set("whatif/stats", "mcv", "{1,2,NaN}", column="p")
    yield "statistics array", _set("whatif/stats", "mcv,histogram", "{{{{{", column="word")
    yield "statistics of 20 MB", _set("whatif/stats", "histogram", "{" + "a," * 10_000_000 + "b}", column="word")
    yield "statistics width", _set("whatif/stats", "avg_width", -5, column="p")
    yield "statistics distinct", _set("whatif/stats", "n_distinct", 1e300, column="p")
    yield "statistics share", _set("whatif/stats", "null_frac", "1e300", column="p")
    yield "collation", _set("whatif/columns", "collation_locale", f"C'); {MAKE}; --", name="word")
    yield "collation name", _set("whatif/columns", "collation_schema,collation_name", "pg_catalog", name="word")
    for name, value in (("search_path", "public"), ("session_preload_libraries", MARK), ("log_directory", "/"), ("role", "indexpilot"),
                        ("session_authorization", "indexpilot"), ("work_mem", "99999999999999"), ("seq_page_cost", "NaN"),
                        ("DateStyle", "ISO; x"), ("TimeZone", "../../etc/passwd'")):  # fmt: skip
        yield f"setting {name}", lambda b, n=name, v=value: b.answers["whatif/settings"].append({"name": n, "setting": v})  # type: ignore[misc]
    yield "search_path of the server", _set("whatif/server", "search_path", f'app, "x; {MAKE}"')
    yield "locale", _set("whatif/server", "collate", f"C'; {MAKE}; --")
    yield "extension", _set("whatif/server", "extensions,extension_schemas", lambda x: [*x, "file_fdw"])
    yield "extension schema", _set("whatif/server", "extensions,extension_schemas", ["pg_trgm"])
    yield "pages below zero", _set("whatif/sizes", "pages", -1)
    yield "pages beyond all", _set("whatif/sizes", "pages", 2**40)
    yield "many pages", _set("whatif/sizes", "pages", 2**32)
    yield "tuples", _set("whatif/relations", "reltuples", 1e300, name="t")
    yield "tuples below", _set("whatif/relations", "reltuples", -1e300, name="t")
    yield "all visible", _set("whatif/relations", "relallvisible", -(2**40), name="t")
    yield "block size", _set("whatif/server", "block_size", -1)
    yield "key columns", _set("whatif/indexes", "key_columns", 10**6, name="t_word")
    yield (
        "deep expression",
        _set("whatif/indexes", "definition", f"create index t_word on app.t (({'(' * 5000}id{')' * 5000}))", name="t_word"),
    )
    yield (
        "long expression",
        _set("whatif/indexes", "definition", f"create index t_word on app.t ((id{'+1' * 30_000}))", name="t_word"),
    )
    yield "object id", _set("whatif/indexes", "oid", 2**70, name="t_word")
    yield "schema name", _set("whatif/relations", "schema", "pg_catalog", name="child")
    yield "table name with NUL", _set("whatif/relations", "name", "a\0b", name="child")


@dataclass
class Trial:
    """One forecast from one file on a shadow that is kept for all of them."""

    folder: Path
    simulator: Simulator = field(default_factory=Simulator)

    async def forecast(self, path: Path, queries: tuple[str, ...] = QUERIES, ddl: str = DDL) -> Forecast | IndexPilotError:
        statements = [Statement(str(n), q, 1.0) for n, q in enumerate(queries)]
        try:
            async with asyncio.timeout(30):
                return await self.simulator.simulate(BundleSession(read_bundle(path)), ddl, statements)
        except IndexPilotError as exc:
            return exc

    async def of(self, good: Bundle, change: Change) -> Forecast | IndexPilotError:
        bundle = copy.deepcopy(good)
        change(bundle)
        path = self.folder / "bundle"
        write_bundle(bundle, path)
        return await self.forecast(path)

    def marks(self) -> list[str]:
        """What statements of a bundle left on the shadow."""
        found = []
        for database in self.simulator.server._databases.values():
            with psycopg.connect(database.cluster.conninfo(database.name), autocommit=True) as conn:
                rows = conn.execute(
                    "select oid::regclass::text from pg_class where relname like %s", (f"%{MARK}%",)
                ).fetchall()
                found += [str(r[0]) for r in rows]
                code = conn.execute(
                    "select p.oid::regprocedure::text, l.lanname, p.prosrc from pg_proc p join pg_language l on l.oid = p.prolang"
                    " where p.oid >= 16384 and l.lanname not in ('c', 'internal') and p.pronamespace <> 'pg_catalog'::regnamespace"
                    " and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')"
                ).fetchall()
                found += [f"{name}: {body}" for name, language, body in code
                          if not body.startswith("begin raise exception") and not (language == "sql" and MARK not in body)]  # fmt: skip
        return found

    def memory(self) -> int:
        """The most that any process of the shadow holds for itself now, bytes."""
        most = 0
        for database in self.simulator.server._databases.values():
            for path in Path("/proc").glob("[0-9]*/status"):
                try:
                    status = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
                except (OSError, ValueError):
                    continue  # it has ended meanwhile
                if int(status["Uid"].split()[0]) == database.cluster.owner_uid and "RssAnon" in status:
                    most = max(most, int(status["RssAnon"].split()[0]) * 1024)
        return most


class Watch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start
