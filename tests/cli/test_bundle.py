"""Capture over TLS as a plain monitor, then everything that only reads, from the file and without the server."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from indexpilot_tui.cli.main import run
from tests.cli.conftest import Site
from tests.cli.console_line import Ran, indexpilot
from tests.engine.bundle_room import lines, write_lines

DDL = "CREATE INDEX ON app.orders (customer_id)"


@pytest.fixture
def bundle(site: Site, tmp_path: Path) -> Path:
    with site.admin() as conn:
        for _ in range(5):
            conn.execute("select * from app.orders where customer_id = 7")
    file = tmp_path / "site.bundle"
    ran = indexpilot("capture", "mona", "-o", str(file), "--config", site.config(), "--json")
    assert ran.status == 0, ran.err
    assert ran.json["relations"] >= 1
    assert ran.json["read"]["statements"] < 60
    assert ran.json["notes"] == []
    assert file.stat().st_mode & 0o777 == 0o600
    return file


def without_cost(ran: Ran) -> dict[str, object]:
    assert ran.status == 0, ran.err
    return {k: v for k, v in ran.json.items() if k not in ("read", "elapsed_ms")}


def test_what_the_server_forecasts_the_bundle_forecasts(site: Site, bundle: Path, tmp_path: Path) -> None:
    workload = tmp_path / "w.sql"
    workload.write_text("select * from app.orders where customer_id = 7; select * from app.orders where status = 'open';")
    live = indexpilot("simulate", DDL, "mona", "--workload", str(workload), "--json", "--config", site.config())
    site.server.stop()  # nobody is asked
    try:
        offline = indexpilot("simulate", DDL, "--bundle", str(bundle), "--workload", str(workload), "--json")
        assert without_cost(offline) == without_cost(live)
        own = indexpilot("simulate", DDL, "--bundle", str(bundle))
        assert own.status == 0, own.err
        assert "customer_id = $1" in own.out
        drop = indexpilot("simulate", "drop index app.orders_pkey", "--bundle", str(bundle))
        assert "blast radius: REFUSED" in drop.out
    finally:
        restart(site)


def restart(site: Site) -> None:
    """The fixtures of the session need their server again."""
    import subprocess
    import time

    import psycopg

    from tests.servers import _account

    server = site.server
    with (server.root / "log").open("ab") as log:
        server.process = subprocess.Popen(
            [server.bindir / "postgres", "-D", server.root / "data"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            cwd="/", **_account(),  # type: ignore[call-overload]
        )  # fmt: skip
    for _ in range(100):
        try:
            server.connect().close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not come back")


MIGRATIONS = {
    0: "create index concurrently orders_customer on app.orders (customer_id);",
    1: "create index concurrently if not exists orders_customer on app.orders (customer_id);",
    2: "create index orders_customer on app.orders (customer_id);",
    3: "do $$ begin perform 1; end $$;",
}


def test_a_migration_is_judged_offline_with_the_documented_statuses(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for status, text in MIGRATIONS.items():
        file = tmp_path / f"m{status}.sql"
        file.write_text(text)
        found = run(["--check", "--bundle", str(bundle), "--migration", str(file), "--format", "json"])
        said = capsys.readouterr()
        assert found == status, (text, said)
        report = json.loads(said.out)
        assert {"status", "target", "started_at", "elapsed_ms", "rules"} <= set(report)
        for rule in report["rules"]:
            assert {"id", "status", "summary", "evidence", "fix"} <= set(rule)
    plain = indexpilot("--check", "--bundle", str(bundle), "--migration", str(tmp_path / "m2.sql"))
    assert "CRITICAL migration_locks: line 1" in plain.out
    assert "fix: CREATE INDEX CONCURRENTLY orders_customer ON app.orders" in plain.out


def test_a_migration_is_judged_against_a_live_target_too(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "m.sql"
    file.write_text("create index on app.orders (status);")
    ran = indexpilot("--check", "mona", "--migration", str(file), "--config", site.config(), "--json")
    assert ran.status == 2, ran.err
    assert ran.json["target"] == "m.sql on mona"


def test_the_check_of_a_bundle_has_the_rules_on_indexes(site: Site, tmp_path: Path) -> None:
    with site.admin() as conn:
        conn.execute("create index one on app.orders (status); create index two on app.orders (status)")
    file = tmp_path / "b"
    assert indexpilot("capture", "mona", "-o", str(file), "--config", site.config()).status == 0
    ran = indexpilot("--check", "--bundle", str(file), "--json")
    rules = {r["id"]: r for r in ran.json["rules"]}
    assert rules["duplicate_indexes"]["status"] == "warning"
    assert "DROP INDEX CONCURRENTLY" in rules["duplicate_indexes"]["fix"]
    assert "lock_waiters" in {x["id"] for x in ran.json["not_applicable"]}


def test_a_redacted_capture_says_what_it_lost(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "r"
    ran = indexpilot("capture", "mona", "-o", str(file), "--redact", "--config", site.config())
    assert ran.status == 0, ran.err
    assert "lost by --redact" in ran.out
    text = gzip.decompress(file.read_bytes())
    assert b"{open,done}" not in text
    assert b"{done,open}" not in text
    found = indexpilot("simulate", DDL, "--bundle", str(file), "--json")
    assert found.status == 0, found.err


def test_bad_input_gets_one_message_and_64(
    site: Site, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = write_lines(tmp_path / "newer", [lines(bundle)[0] | {"version": 2}])
    sql = tmp_path / "m.sql"
    sql.write_text("select 1")
    config = site.config()
    for args, words in (
        (("simulate", DDL, "--bundle", str(tmp_path / "none")), "cannot be read"),
        (("simulate", DDL, "--bundle", str(sql)), "not a bundle"),
        (("simulate", DDL, "--bundle", str(newer)), "format version 2"),
        (("simulate", DDL, "mona", "--bundle", str(bundle), "--config", config), "in place of a target"),
        (("simulate", "create index on app.nothing (x)", "--bundle", str(bundle)), "no such table"),
        (("--check", "mona", "--bundle", str(bundle), "--config", config), "in place of a target"),
        (("--bundle", str(bundle)), "belongs to --check"),
        (("--migration", str(sql)), "belongs to --check"),
        (("--check", "--bundle", str(bundle), "--workload", str(sql)), "belongs to --migration"),
        (("--check", "--bundle", str(bundle), "--migration", str(tmp_path / "none")), "cannot be read"),
        (("capture", "mona", "-o", str(bundle), "--config", config), "there already"),
        (("capture", "mona", "-o", str(tmp_path / "no" / "where"), "--config", config), "cannot be written"),
        (("capture", "mona", "-o", str(tmp_path / "x"), "--schema", "none", "--config", config), "no table in none"),
    ):
        status = run(list(args))  # here, not in processes of their own: these are many
        said = capsys.readouterr()
        assert status == 64, (args, said)
        assert words in said.err, (args, said.err)
        assert said.out == ""
    assert not (tmp_path / "x").exists()


def test_a_server_that_is_away_gives_no_file(tmp_path: Path) -> None:
    ran = indexpilot("capture", "host=127.0.0.1 port=1 dbname=x user=y", "-o", str(tmp_path / "b"))
    assert ran.status == 3
    assert list(tmp_path.iterdir()) == []


def test_capture_replaces_a_file_only_when_told(site: Site, bundle: Path) -> None:
    before = json.dumps(lines(bundle)[0])
    ran = indexpilot("capture", "mona", "-o", str(bundle), "--force", "--config", site.config())
    assert ran.status == 0, ran.err
    assert json.dumps(lines(bundle)[0]) != before
