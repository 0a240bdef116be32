"""What real servers' logs say of a whole walk: who plans and who counts on user tables. And that code which a build runs is
the owner's, and stays it. On 15 and 18."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from indexpilot_tui.engine.control import Control
from indexpilot_tui.engine.deeds import Deeds
from indexpilot_tui.engine.model.change import State
from indexpilot_tui.localpg import LocalCluster
from tests.faults.workshop import APPROVER, OPERATOR, OWNER, PLANNER, Workshop, make_workshop, story

SENT = re.compile(r"^[\d.]+\|(?P<pid>\d+)\|(?P<app>[^|]*)\|(?P<db>[^|]*)\|LOG:  (?:statement|execute [^:]*): (?P<sql>.*)$")


@pytest.fixture(params=[15, 18])
def cluster(request: pytest.FixtureRequest) -> LocalCluster:
    found: LocalCluster = request.getfixturevalue(f"cluster{request.param}")
    return found


@pytest.fixture
async def workshop(cluster: LocalCluster) -> AsyncIterator[Workshop]:
    async with make_workshop(cluster) as made:
        yield made


def sent(workshop: Workshop) -> list[tuple[str, str, str]]:
    """(application, process, statement) of everything that was sent to this database."""
    lines = workshop.log.read_bytes()[workshop.log_from :].decode("utf-8", "replace").splitlines()
    found = [match for line in lines if (match := SENT.match(line)) and match["db"] == workshop.dbname]
    return [(match["app"], match["pid"], match["sql"]) for match in found]


async def test_only_the_planner_plans_and_only_the_counter_counts(workshop: Workshop) -> None:
    for login in (APPROVER, PLANNER):  # the operator's are logged already
        workshop.sql(f"alter role {login} in database {workshop.dbname} set log_statement = 'all'")
    workshop.sql(f"set role {OWNER}; grant usage on schema app to {PLANNER}; grant select on app.t to {PLANNER}")
    await workshop.reopen()
    for n in range(3):
        workshop.sql(f"select id from app.t where w = '{n}'")
    control = Control(workshop.target, workshop.settings, lambda _: None, None)
    await control.open()
    try:
        change = await Deeds(control).propose(workshop.monitor, "create unique index on app.t (w)", "one each")
    finally:
        await control.close()
    await workshop.approver.approve(change.id, change.plan_sha256, timedelta(hours=1))
    await workshop.spawn(change.id)
    done = await workshop.until(change.id, State.DONE, seconds=60)
    said = sent(workshop)
    apps = {app for app, _, _ in said}
    assert {"indexpilot", "ixp-planner", f"ixp-count:{change.id}"} <= apps, (apps, story(done))
    assert any("indexpilot.approve(" in text for app, _, text in said if app == "indexpilot"), "the approver is in the log"
    plans = {app for app, _, text in said if text.lower().startswith(("explain", "prepare"))}
    assert plans == {"ixp-planner"}
    counts = {app for app, _, text in said if re.search(r"""from\s+(only\s+)?"?app"?\."?t"?""", text, re.I)
              and not text.lower().startswith(("explain", "prepare"))}  # fmt: skip
    assert counts == {f"ixp-count:{change.id}"}
    for app in ("ixp-planner", f"ixp-count:{change.id}"):
        for pid in {pid for a, pid, _ in said if a == app}:
            texts = [text for _, p, text in said if p == pid]
            begun = next(n for n, text in enumerate(texts) if text.startswith("begin"))
            assert texts[begun] == "begin transaction isolation level read committed read only"
            assert not any(text.lower().startswith(("commit", "end", "rollback;", "reset", "discard")) for text in texts)


async def test_what_a_build_runs_is_the_owners_and_never_the_operators(workshop: Workshop) -> None:
    """The function of the index notes as whom it ran, and what it could become; the note is a row of a table."""
    tries = "".join(
        f"begin perform pg_catalog.set_config('role', '{role}', false); insert into app.who values ('became ' || current_user);"
        f" exception when others then insert into app.who values ('not {role}: ' || sqlstate); end; "
        for role in ("none", OPERATOR)
    )
    workshop.sql(
        f"set role {OWNER}; create table app.who (what text);"
        f" create function app.note() returns int language plpgsql as $$begin insert into app.who values (current_user);"
        f" {tries} return 1; end$$;"
        " create function app.keyed(int) returns int language plpgsql immutable as"
        " $$begin if $1 = 7 then perform app.note(); end if; return $1; end$$"
    )
    change_id = await workshop.approved("create index on app.t (app.keyed(id))")
    await workshop.spawn(change_id)
    await workshop.until(change_id, State.OBSERVING, seconds=60)
    noted = {str(row[0]) for row in workshop.sql("select what from app.who")}
    assert OWNER in noted, "it was run, or this test shows nothing"
    assert noted == {OWNER, "not none: 42501", f"not {OPERATOR}: 42501"}
    said = [(pid, text) for app, pid, text in sent(workshop) if app.startswith(f"ixp:{change_id}:")]
    builder = next(pid for pid, text in said if text.lower().startswith("create index"))
    assert not any(text.lower().startswith(("reset", "discard", "set role none")) for pid, text in said if pid == builder)
    assert workshop.sql("select count(*) from pg_stat_activity where pid = %s", int(builder)) == [(0,)], "closed, not reset"
