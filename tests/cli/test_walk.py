"""Three people and one index, headless, on Debian's 15 over TLS with verify-full: the whole way and every refusal on it."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.conftest import Site
from tests.cli.console_line import Ran, indexpilot, indexpilot_afresh

DDL = "CREATE INDEX ON app.orders (customer_id)"
QUERY = "select count(*) from app.orders where customer_id = 17"


def propose(site: Site, ddl: str = DDL, config: str | None = None) -> int:
    ran = indexpilot(
        "changes", "propose", ddl, "olga", "--reason", "slow lookups", "--config", config or site.config(), "--json"
    )
    assert ran.status == 0, ran.err
    assert ran.json["state"] == "proposed"
    return int(ran.json["id"])


def approve(site: Site, change_id: int) -> Ran:
    return indexpilot("changes", "approve", str(change_id), "anna", "--config", site.config(), "--json")


def test_propose_approve_apply_show_rollback(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command and each executor a start of Python, as in a shell."""
    monkeypatch.setattr(sys.modules[__name__], "indexpilot", indexpilot_afresh)
    with site.admin() as conn:
        for _ in range(40):
            conn.execute(QUERY)
    change_id = propose(site)
    assert approve(site, change_id).status == 0
    config = site.config()
    ran = indexpilot("changes", "apply", str(change_id), "olga", "--config", config, "--json")
    assert ran.status == 0, ran.err
    assert ran.json["state"] in ("observing", "done")
    assert ran.json["index"]["valid"] is True
    with site.admin() as conn:
        row = conn.execute(
            "select indisvalid, indexrelid::regclass::text from pg_index where indexrelid = %s", (ran.json["index"]["oid"],)
        ).fetchone()
        assert row == (True, "app.orders_customer_id_idx")
        for _ in range(40):
            conn.execute(QUERY)
    for _ in range(60):
        shown = indexpilot("changes", "show", str(change_id), "mona", "--config", config, "--json").json
        if shown["state"] == "done":
            break
        time.sleep(0.5)
    assert shown["state"] == "done"
    assert shown["verification"]["verdict"] == "improved", shown["verification"]
    assert shown["approvals"][0]["approver"] == "anna"
    actions = [e["action"] for e in shown["events"]]
    assert actions.index("ddl.intent") < actions.index("verified")
    back = indexpilot("changes", "rollback", str(change_id), "olga", "--reason", "walkthrough", "--config", config, "--json")
    assert back.status == 0, back.err
    assert back.json["parent_id"] == change_id
    with site.admin() as conn:
        assert conn.execute("select to_regclass('app.orders_customer_id_idx')").fetchone() == (None,)
    for _ in range(60):
        shown = indexpilot("changes", "show", str(change_id), "mona", "--config", config, "--json").json
        if shown["state"] == "rolled_back":
            break
        time.sleep(0.5)
    assert shown["state"] == "rolled_back"
    assert indexpilot("audit", "verify", "mona", "--config", config).status == 0


def test_nobody_approves_their_own(site: Site) -> None:
    with site.admin() as conn:
        conn.execute("grant indexpilot_approver to olga")
    try:
        change_id = propose(site)
        ran = indexpilot("changes", "approve", str(change_id), "olga", "--config", site.config())
    finally:
        with site.admin() as conn:
            conn.execute("revoke indexpilot_approver from olga")
    assert ran.status == 2
    assert "olga" in ran.err
    shown = indexpilot("changes", "show", str(change_id), "mona", "--config", site.config(), "--json").json
    assert shown["state"] == "proposed"


def test_a_plan_that_was_edited_after_approval_is_not_carried_out(site: Site) -> None:
    change_id = propose(site)
    assert approve(site, change_id).status == 0
    with site.admin() as conn:
        changed = conn.execute(
            "update indexpilot.changes set plan = replace(plan, '(customer_id)', '(status)') where id = %s", (change_id,)
        )
        assert changed.rowcount == 1
    ran = indexpilot("changes", "apply", str(change_id), "olga", "--config", site.config())
    assert ran.status == 2, ran.err
    assert "its hash differs" in ran.err
    with site.admin() as conn:
        assert conn.execute("select count(*) from pg_index where indrelid = 'app.orders'::regclass").fetchone() == (1,)


def test_outside_the_window_it_says_when_it_opens(site: Site) -> None:
    change_id = propose(site)
    assert approve(site, change_id).status == 0
    opens = datetime.now(UTC) + timedelta(hours=3)
    window = {"start_hour": opens.hour, "end_hour": (opens.hour + 1) % 24, "timezone": "UTC"}
    config = site.config(production_safeguards={"maintenance_window": window})
    ran = indexpilot("changes", "apply", str(change_id), "olga", "--config", config)
    assert ran.status == 2, ran.err
    assert "maintenance_window" in ran.err
    assert opens.strftime("%Y-%m-%dT%H:00") in ran.err
    shown = indexpilot("changes", "show", str(change_id), "mona", "--config", site.config(), "--json").json
    assert shown["state"] == "approved"


def test_require_may_look_and_may_not_change(site: Site) -> None:
    change_id = propose(site)
    assert approve(site, change_id).status == 0
    config = site.config("require")
    looked = indexpilot("simulate", DDL, "olga", "--config", config, "--json")
    assert looked.status == 0, looked.err
    assert looked.json["backend"] == "shadow"
    ran = indexpilot("changes", "apply", str(change_id), "olga", "--config", config)
    assert ran.status == 2, ran.err
    assert "verify-full" in ran.err
    with site.admin() as conn:
        assert conn.execute("select to_regclass('app.orders_customer_id_idx')").fetchone() == (None,)


def test_the_monitor_may_not_propose_and_the_operator_may_not_approve(site: Site) -> None:
    ran = indexpilot("changes", "propose", DDL, "mona", "--reason", "x", "--config", site.config())
    assert ran.status == 3, ran.err
    assert "indexpilot_operator" in ran.err
    change_id = propose(site)
    ran = indexpilot("changes", "approve", str(change_id), "olga", "--config", site.config())
    assert ran.status in (2, 3), ran.err
    assert "indexpilot_approver" in ran.err
