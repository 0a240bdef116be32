"""Functions of the target in a bundle: what a planner has to know of them, and without their texts where that is asked."""

from __future__ import annotations

import gzip
import secrets
from pathlib import Path

import psycopg

from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.bundle.capture import CaptureOptions, capture
from indexpilot_tui.engine.whatif.bundle.file import read_bundle, write_bundle
from indexpilot_tui.engine.whatif.bundle.redact import redacted
from indexpilot_tui.engine.whatif.bundle.session import BundleSession
from indexpilot_tui.engine.whatif.calls import names_in
from indexpilot_tui.engine.whatif.model import Statement
from indexpilot_tui.engine.whatif.simulate import Simulator
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.conftest import socket_target

SCHEMA = """
create schema "Fn s";
create function "Fn s"."Norm"(text) returns text immutable language sql as $$ select lower($1) || 'CANARY' $$;
create function "Fn s".code(int) returns int immutable cost 50 language plpgsql as 'begin return $1 % 100; end';
create function "Fn s".only_called(int) returns int stable language plpgsql as 'begin return 5; end';
create table f (id int, v int, t text, g int generated always as ("Fn s".code(id)) stored);
insert into f (id, v, t) select g, g % 300, 'T' || g % 40 from generate_series(1, 20000) g;
create index f_norm on f ("Fn s"."Norm"(t)); create index f_code on f ("Fn s".code(v)) where "Fn s".code(v) > 3;
create view fv as select id, "Fn s".code(v) as c from f;
"""
QUERIES = [
    """select * from f where "Fn s"."Norm"(t) = 't5CANARY'""", 'select * from f where "Fn s".code(v) = 5',
    "select * from fv where c = 7", "select * from f where g = 7",
    'select * from f where "Fn s".only_called(v) = 3', "insert into f (id) values (1)",
]  # fmt: skip


async def test_a_bundle_has_what_a_planner_needs_of_functions(cluster18: LocalCluster, tmp_path: Path) -> None:
    name = f"functions_{secrets.token_hex(4)}"
    statements = [Statement(str(n), q, 1.0) for n, q in enumerate(QUERIES)]
    simulator = Simulator()
    with psycopg.connect(cluster18.conninfo(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
        try:
            with psycopg.connect(cluster18.conninfo(name), autocommit=True) as owner:
                owner.execute(SCHEMA.encode())
                owner.execute("vacuum analyze")
                real = {}
                for n, q in enumerate(QUERIES):
                    row = owner.execute(b"explain (format json) " + q.encode()).fetchone()
                    assert row is not None
                    real[str(n)] = row[0][0]["Plan"]["Total Cost"]
            session = await connect(socket_target(cluster18, name), Purpose.MONITOR, Settings())
            try:
                live = await simulator.simulate(session, "create index on f (v)", statements)
                bundle = await capture(session, CaptureOptions(statements=statements))
            finally:
                await session.close()
            write_bundle(bundle, tmp_path / "b")
            write_bundle(redacted(bundle), tmp_path / "r")
            assert b"CANARY" not in gzip.decompress((tmp_path / "r").read_bytes())
            filed = await simulator.simulate(BundleSession(read_bundle(tmp_path / "b")), "create index on f (v)", statements)
            hidden = await simulator.simulate(
                BundleSession(read_bundle(tmp_path / "r")), "create index on f (v)", statements
            )
        finally:
            await simulator.close()
            admin.execute(f"drop database {name} with (force)".encode())
    for forecast in (live, filed):
        assert forecast.left_out == ()
        assert {q.queryid: q.cost_before for q in forecast.queries} == real
        told = [r for r in forecast.confidence.reasons if "function" in r]
        assert len(told) == 2, told
        assert told[0].endswith("only stand in here for the target's: Fn s.code, Fn s.only_called")
        assert told[1] == "functions that are made as they are: Fn s.Norm"
    assert hidden.left_out == ()
    assert any("texts of functions" in text for text in read_bundle(tmp_path / "r").header.lost)


def test_calls_are_found_in_texts_of_the_catalog() -> None:
    text = 'CREATE INDEX i ON public.f USING btree ("Fn s"."No""rm"(t), code (v), upper((t)::text)) WHERE (Größe(x) > 1)'
    assert {'No"rm', "code", "upper", "größe"} <= names_in(text)
