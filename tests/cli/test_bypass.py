"""The emergency and the kill switch from the command line, on Debian's 15: what is lifted, by whom, and that it is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.cli.conftest import Site
from tests.cli.console_line import Ran, indexpilot
from tests.cli.test_walk import approve, propose

ALLOWED = {"bypass": {"emergency": {"enabled": True, "auto_recover_after_seconds": 1200}}}


def closed(site: Site, **more: object) -> str:
    """A configuration whose maintenance window opens in three hours."""
    opens = datetime.now(UTC) + timedelta(hours=3)
    window = {"start_hour": opens.hour, "end_hour": (opens.hour + 1) % 24, "timezone": "UTC"}
    return site.config(production_safeguards={"maintenance_window": window}, **more)


def bypass(site: Site, *args: str, config: str | None = None) -> Ran:
    return indexpilot("bypass", *args, "--config", config or site.config(**ALLOWED), "--json")


def test_a_change_outside_the_window_in_an_emergency(site: Site) -> None:
    config = closed(site, **ALLOWED)
    change_id = propose(site, config=config)
    assert approve(site, change_id).status == 0
    apply = ("changes", "apply", str(change_id), "olga", "--config", config, "--json")
    assert "maintenance_window" in indexpilot(*apply).err
    # the load is lifted, the window is not
    assert bypass(site, "on", "olga", "--scope", "load", "--reason", "incident", "--minutes", "5").status == 0
    assert indexpilot(*apply).status == 2
    (given,) = bypass(site, "on", "olga", "--scope", "window", "--scope", "rate", "--reason", "incident 4711").json
    assert given["in_force"] is True
    assert given["scope"] == ["rate", "window"]
    assert datetime.fromisoformat(given["until"]) - datetime.fromisoformat(given["at"]) == timedelta(minutes=20)
    shown = bypass(site, "status", "mona")
    assert shown.status == 1
    assert [row["id"] for row in shown.json if row["in_force"]] == [given["id"], given["id"] - 1]
    ran = indexpilot(*apply)
    assert ran.status == 0, ran.err
    assert any(e["action"] == "bypass.used" for e in ran.json["events"])
    assert any(
        "lifted by bypass of olga" in v["evidence"] for v in ran.json["verdicts"] if v["guard"] == "maintenance_window"
    )
    assert bypass(site, "off", "olga", "--reason", "fixed").json == {"ended": 2}
    assert bypass(site, "off", "olga", "--reason", "fixed").status == 2
    refused = bypass(site, "review", str(given["id"]), "olga", "--note", "all well")
    assert "indexpilot_approver" in refused.err
    (reviewed,) = bypass(site, "review", str(given["id"]), "anna", "--note", "one index, needed").json
    assert (reviewed["reviewed_by"], reviewed["uses"]) == ("anna", 1)
    assert bypass(site, "status", "mona").status == 0  # the other one has its 24 hours
    text = indexpilot("bypass", "status", "mona", "--config", site.config()).out
    assert "reviewed by anna: one index, needed" in text
    assert "not reviewed; due by" in text
    log = indexpilot("audit", "show", "mona", "--config", site.config(), "--json").json
    told = [e["action"] for e in log if e["action"].startswith("bypass.")]
    assert told == ["bypass.on", "bypass.on", "bypass.used", "bypass.off", "bypass.off", "bypass.reviewed"]
    assert indexpilot("audit", "verify", "mona", "--config", site.config()).status == 0


def test_who_may_not_and_what_may_not(site: Site) -> None:
    on = ("on", "olga", "--reason", "incident", "--scope")
    refused = bypass(site, *on, "window", config=site.config())
    assert refused.status == 2
    assert "bypass.emergency.enabled" in refused.err
    for scope in ("tls", "approval", "guards"):
        assert bypass(site, *on, scope).status == 64
    assert bypass(site, *on, "window", "--minutes", "61").status == 64
    assert bypass(site, *on, "window", "--minutes", "0").status == 64
    assert bypass(site, "on", "olga", "--scope", "window").status == 64  # no reason
    monitor = bypass(site, "on", "mona", "--scope", "window", "--reason", "incident")
    assert monitor.status == 3, monitor.err
    assert "indexpilot_operator" in monitor.err
    assert bypass(site, "status", "mona").json == []


def test_the_kill_switch(site: Site) -> None:
    change_id = propose(site)
    assert approve(site, change_id).status == 0
    config = site.config()
    ran = indexpilot("changes", "stop", "olga", "--reason", "release night", "--config", config, "--json")
    assert ran.json == {"starts_stopped": True, "by": "olga", "reason": "release night"}
    ran = indexpilot("changes", "apply", str(change_id), "olga", "--config", config)
    assert ran.status == 2
    assert "kill_switch" in ran.err
    assert "release night" in ran.err
    ran = indexpilot("changes", "allow", "olga", "--reason", "over", "--config", config)
    assert ran.status == 3
    assert "GRANT indexpilot_approver TO olga" in ran.err
    assert "changes may start" in indexpilot("changes", "allow", "anna", "--reason", "over", "--config", config).out
    help_text = indexpilot("changes", "--help").out
    assert "kill switch" in help_text
