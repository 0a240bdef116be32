"""Rebuilding and settling headless, on Debian's 15 over TLS: `changes propose REINDEX` and `changes resolve`."""

from __future__ import annotations

import threading
import time

from tests.cli.conftest import Site
from tests.cli.console_line import indexpilot
from tests.cli.test_walk import approve, propose


def test_a_rebuild_headless(site: Site) -> None:
    with site.admin() as conn:
        conn.execute("set role app_owner; create index bloated on app.orders (customer_id)")
        row = conn.execute("select 'app.bloated'::regclass::oid::int8").fetchone()
    change_id = propose(site, "REINDEX INDEX app.bloated")
    assert approve(site, change_id).status == 0
    ran = indexpilot("changes", "apply", str(change_id), "olga", "--config", site.config(), "--json")
    assert ran.status == 0, ran.err
    assert ran.json["kind"] == "reindex"
    assert ran.json["index"]["valid"] is True
    assert row is not None
    assert ran.json["index"]["oid"] != row[0]  # measured: the rebuilt index has a new OID
    back = indexpilot("changes", "rollback", str(change_id), "olga", "--reason", "why not", "--config", site.config())
    assert back.status == 2
    assert "nothing to go back to" in back.err


def test_a_half_dropped_index_is_settled_by_the_approver_and_finished_by_the_operator(site: Site) -> None:
    with site.admin() as conn:
        conn.execute("set role app_owner; create index spare on app.orders (note)")
    change_id, config = propose(site, "DROP INDEX app.spare"), site.config()
    assert approve(site, change_id).status == 0
    reader = site.admin()
    applied = threading.Thread(target=indexpilot, args=("changes", "apply", str(change_id), "olga", "--config", config))
    with reader.transaction():
        applied.start()  # its gates pass while the reader is younger than 30 s
        reader.execute("select 1 from app.orders limit 1")
        with site.admin() as conn:
            for _ in range(200):
                row = conn.execute("select indisvalid from pg_index where indexrelid = 'app.spare'::regclass").fetchone()
                if row == (False,):
                    break
                time.sleep(0.1)
            assert row == (False,)
        abort = indexpilot("changes", "abort", str(change_id), "olga", "--reason", "not now", "--config", config)
        assert abort.status == 0, abort.err
        applied.join(60)
    reader.close()
    shown = indexpilot("changes", "show", str(change_id), "mona", "--config", config)
    assert f"resolve {change_id} --finish" in shown.out
    vague = indexpilot("changes", "resolve", str(change_id), "anna", "--reason", "x", "--config", config)
    assert vague.status == 64
    mine = indexpilot("changes", "resolve", str(change_id), "olga", "--finish", "--reason", "x", "--config", config)
    assert mine.status == 3
    assert "indexpilot_approver" in mine.err
    settled = indexpilot("changes", "resolve", str(change_id), "anna", "--finish", "--reason", "unused", "--config", config)
    assert settled.status == 0, settled.err
    assert f"changes apply {change_id}" in settled.err
    ran = indexpilot("changes", "apply", str(change_id), "olga", "--config", config, "--json")
    assert ran.status == 0, ran.err
    assert ran.json["state"] in ("observing", "done")
    with site.admin() as conn:
        assert conn.execute("select to_regclass('app.spare')").fetchone() == (None,)


def test_the_way_back_is_shown_rehearsed_and_gone(site: Site) -> None:
    with site.admin() as conn:
        conn.execute("set role app_owner; create index spare on app.orders (note, customer_id) with (fillfactor = 77)")
        conn.execute("comment on index app.spare is 'for the report'")
    change_id, config = propose(site, "DROP INDEX app.spare"), site.config()
    rehearsed = indexpilot("changes", "rehearse", str(change_id), "olga", "--config", config)
    assert rehearsed.status == 0, rehearsed.err
    assert "held: on PostgreSQL 15 all 2 indexes" in rehearsed.out
    looked = indexpilot("changes", "rehearse", str(change_id), "mona", "--config", config, "--json")
    assert looked.json["result"] == "held"
    assert "not recorded" in looked.err
    assert approve(site, change_id).status == 0
    assert indexpilot("changes", "apply", str(change_id), "olga", "--config", config).status == 0
    ran = indexpilot("changes", "rollback", str(change_id), "mona", "--plan", "--config", config)
    assert ran.status == 0, ran.err
    for words in ("for the report", "fillfactor=77", "the forecast's model", "letter by letter", "covered by the approval of anna",
                  "held: on PostgreSQL 15"):  # fmt: skip
        assert words in ran.out, ran.out
    plan = indexpilot("changes", "rollback", str(change_id), "mona", "--plan", "--config", config, "--json").json
    assert plan["cost"]["size_bytes"] > 1_000_000
    assert plan["rehearsal"]["by"] == "olga"
    assert indexpilot("changes", "rollback", str(change_id), "olga", "--config", config).status == 64
    back = indexpilot("changes", "rollback", str(change_id), "olga", "--reason", "needed", "--config", config, "--json")
    assert back.status == 0, back.err
    assert "all that was saved is back" in back.json["outcome"]
    with site.admin() as conn:
        row = conn.execute(
            "select pg_get_indexdef('app.spare'::regclass), obj_description('app.spare'::regclass)"
        ).fetchone()
    assert row is not None
    assert row[0] == dict(plan["saved"])["definition"]
    assert row[1] == "for the report"
