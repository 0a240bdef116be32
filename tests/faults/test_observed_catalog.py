"""What others do to an index while it is observed: the end of the window reads the catalog again, and says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from indexpilot_tui.engine.changes.keeping import keep
from indexpilot_tui.engine.changes.standing import stands
from indexpilot_tui.engine.model.change import State
from tests.faults.workshop import Workshop, story

# column, what is done to its index meanwhile, the code that this is told by
MEANWHILE = (
    ("f", "vacuum full app.t", "valid"),  # the same OID in another file; first, since it would make an INVALID index valid
    ("a", "drop index app.t_a_idx", "dropped"),
    ("b", "drop index app.t_b_idx; create index t_b_idx on app.t (w)", "replaced"),
    ("c", "update pg_index set indisvalid = false where indexrelid = 'app.t_c_idx'::regclass", "invalid"),
    ("d", "reindex index concurrently app.t_d_idx", "replaced"),
    ("e", "alter index app.t_e_idx rename to renamed", "valid"),
)


@pytest.fixture
def patient(workshop: Workshop) -> Workshop:
    """A window that does not end by itself, and more than one change at a time on the table's columns."""
    settings = workshop.settings
    workshop.settings = replace(settings, verification=replace(settings.verification, window_seconds=120))
    workshop.sql("set role w_owner; alter table app.t " + ", ".join(f"add {c} int" for c, _, _ in MEANWHILE))
    return workshop


async def _observed(workshop: Workshop, ddl: str) -> int:
    change_id = await workshop.approved(ddl)
    await workshop.spawn(change_id)
    await workshop.until(change_id, State.OBSERVING)
    return change_id


async def test_the_end_of_the_window_says_what_became_of_the_index(patient: Workshop) -> None:
    ids = {column: await _observed(patient, f"create index on app.t ({column})") for column, _, _ in MEANWHILE}
    patient.theirs |= {"app.t_b_idx", "app.t_c_idx", "app.t_d_idx", "app.renamed"}
    for _column, statement, _ in MEANWHILE:
        for text in [statement] if "concurrently" in statement or "vacuum" in statement else statement.split("; "):
            patient.sql(text)
    for column, _, code in MEANWHILE:
        change = await patient.journal.change(ids[column])
        if change.state is State.OBSERVING:  # whoever was looked at in the meantime has ended already
            assert (await stands(patient.monitor, change)).code == code
            await keep(patient.journal, ids[column])
    for column, _, code in MEANWHILE:
        end = State.DONE if code == "valid" else State.NEEDS_OPERATOR
        change = await patient.until(ids[column], end)
        last = next(e for e in reversed(change.events) if e.action in ("catalog", "observed"))
        found = last.detail if code != "valid" else last.detail["catalog"]
        assert found["code"] == code, story(change)
        if code != "valid":
            assert found["sentence"] in change.outcome
            assert change.verification is None  # nothing was judged that was not there
            patient.left[change.id] = code
    patient.sql("update pg_index set indisvalid = true where indexrelid = 'app.t_c_idx'::regclass")


async def test_a_dropped_index_that_somebody_makes_again_ends_the_watch_by_itself(patient: Workshop) -> None:
    patient.sql("set role w_owner; create index old_one on app.t (a)")
    change_id = await _observed(patient, "drop index app.old_one")
    assert (await stands(patient.monitor, await patient.journal.change(change_id))).code == "gone"
    patient.sql("set role w_owner; create index old_one on app.t (a)")
    patient.theirs.add("app.old_one")
    change = await patient.until(change_id, State.NEEDS_OPERATOR)  # nobody asked, and the window is long
    assert "app.old_one again" in change.outcome
    patient.left[change_id] = "made again"
