"""The rules on session, server and rights: each fails where it should, and passes where it may."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from indexpilot_tui.check.context import CheckContext
from indexpilot_tui.check.model import RuleResult
from indexpilot_tui.check.rules import RULES
from indexpilot_tui.check.rules.server import END_OF_LIFE, end_of_life
from indexpilot_tui.check.run import check_target, run_rules
from indexpilot_tui.engine.postgres.session import Session
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings, Target
from tests.check.asking import CRITICAL, OK, UNKNOWN, WARNING, ask
from tests.engine.observe_room import SETTINGS, Place, make_place
from tests.servers import TlsServer


async def with_facts(place: Place, rule_id: str, session: Session, **facts: object) -> RuleResult:
    """A real session that says something else of itself."""
    session.facts = replace(session.facts, **facts)  # type: ignore[arg-type]
    ctx = CheckContext(place.target(), SETTINGS, session)
    return (await run_rules(ctx, [r for r in RULES if r.id == rule_id])).rules[0]


async def test_connection(place: Place) -> None:
    assert (await ask(place, "connection")).status is OK
    async with place.session() as session:
        pooled = await with_facts(place, "connection", session, client_pid=1)
        assert (pooled.status, "pooler" in pooled.summary) == (WARNING, True)
    async with place.session() as session:
        skewed = await with_facts(place, "connection", session, clock_skew_s=-7.0)
        assert (skewed.status, "7 s off" in skewed.summary) == (WARNING, True)


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("host=127.0.0.1 port=1 dbname=x user=y connect_timeout=2", "refused"),
        ("host=/nonexistent dbname=x user=y", "No such file"),
    ],
)
async def test_a_server_that_is_not_there_is_one_report_that_could_not_check(dsn: str, words: str) -> None:
    report = await check_target(Target(name="away", environment="development", dsn=dsn), Settings())
    assert [(r.id, r.status) for r in report.rules] == [("connection", UNKNOWN)]
    assert words in report.rules[0].summary
    assert report.rules[0].fix
    assert report.exit_status == 3


async def test_tls(tls_server: TlsServer, place: Place) -> None:
    settings = Settings()
    rules = [rule for rule in RULES if rule.id == "tls"]
    found = {}
    for mode in ("verify-full", "require"):
        target = Target(name="t", dsn=tls_server.conninfo("admin", sslmode=mode))
        found[mode] = (await check_target(target, settings, rules=rules)).rules[0]
    assert found["verify-full"].status is OK
    assert "TLSv1.3" in found["verify-full"].summary
    assert found["require"].status is WARNING
    assert "verify-full" in found["require"].fix
    assert (await ask(place, "tls")).status is OK  # a unix socket
    async with place.session() as session:
        bare = replace(session.facts.tls, unix_socket=False, in_use=False)
        assert (await with_facts(place, "tls", session, tls=bare)).status is WARNING
        production = CheckContext(Target(name="p"), settings, session)
        assert (await run_rules(production, rules)).rules[0].status is CRITICAL


async def test_node(place: Place, standby15: str) -> None:
    assert (await ask(place, "node")).status is OK
    target = Target(name="s", environment="development", dsn=standby15)
    report = await check_target(target, SETTINGS)
    by_id = {rule.id: rule for rule in report.rules}
    assert by_id["node"].status is WARNING
    assert "standby" in by_id["node"].summary
    # all of the looking works there, too
    assert not [r for r in report.rules if r.status is UNKNOWN and r.id not in ("hot_query_without_index",)], report


async def test_server_version(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await ask(place, "server_version")).status is OK
    async with place.session() as session:
        corrupting = await with_facts(place, "server_version", session, server_version=140002)
        assert corrupting.status is CRITICAL
    monkeypatch.setitem(END_OF_LIFE, 18, date(2020, 1, 1))
    old = await ask(place, "server_version")
    assert (old.status, "2020-01-01" in old.summary) == (WARNING, True)


def test_end_of_life() -> None:
    assert end_of_life(130021, date(2025, 11, 13)) is None
    assert end_of_life(130021, date(2025, 11, 14)) == date(2025, 11, 13)
    assert end_of_life(190000, date(2099, 1, 1)) is None


async def test_server_settings(place: Place) -> None:
    assert (await ask(place, "server_settings")).status is OK
    await place.run(f"alter database {place.dbname} set enable_indexscan = off")
    found = await ask(place, "server_settings")
    assert (found.status, found.fix) == (WARNING, "ALTER SYSTEM SET enable_indexscan = 'on'")
    await place.run(f"alter database {place.dbname} set zero_damaged_pages = on")
    found = await ask(place, "server_settings")
    assert found.status is CRITICAL
    assert len(found.evidence) == 2


async def test_pg_stat_statements(check_cluster: LocalCluster, place: Place) -> None:
    assert (await ask(place, "pg_stat_statements")).status is OK
    blind = await place.role("blind")
    hidden = await ask(place, "pg_stat_statements", user=blind)
    assert hidden.status is WARNING
    assert hidden.fix == f'GRANT "pg_monitor" TO "{blind}"'
    async with make_place(check_cluster, extension_schema=None) as bare:
        absent = await ask(bare, "pg_stat_statements")
    assert absent.status is WARNING
    assert "CREATE EXTENSION pg_stat_statements" in absent.fix


async def test_privileges(place: Place) -> None:
    await place.run("create table secret (a int)")
    blind = await place.role("blind")
    found = await ask(place, "privileges", user=blind)
    assert found.status is WARNING
    assert found.fix.splitlines() == [f'GRANT "pg_monitor" TO "{blind}"', f'GRANT "pg_read_all_data" TO "{blind}"']
    assert found.evidence[0]["examples"] == ["public.secret"]
    await place.run(*found.fix.splitlines())  # the fix is accepted as it stands, and is enough
    assert (await ask(place, "privileges", user=blind)).status is OK
    boss = await ask(place, "privileges", target=Target(name="p", dsn=place.target().dsn))
    assert (boss.status, "superuser" in boss.summary) == (WARNING, True)
