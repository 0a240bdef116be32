"""Indexes that no node scans, as far as that can be said of the window in which scans were counted. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from indexpilot_tui.engine.observe.indexes.say import count, finding, span
from indexpilot_tui.engine.observe.indexes.situation import Situation, StandbyUse
from indexpilot_tui.engine.observe.indexes.structure import Shape
from indexpilot_tui.engine.observe.model import FindingKind, HealthFinding

RARELY_DAYS = 35.0  # an index that was scanned once: a job of each month must have had its turn since


def unused(shape: Shape, situation: Situation) -> Iterable[HealthFinding]:
    """At most one finding. It has a fix only where every node was asked and its window is old enough."""
    index = shape.facts
    if shape.needed or index.unique or not index.usable or index.partitioned or index.busy or index.scans is None:
        return
    if situation.scanned(index):
        yield from _rarely(shape, situation)
        return
    age = situation.age_days
    risk = "an index used once a quarter looks unused until then; the catalog does not tell when an index was made"
    if index.has_expressions:
        risk += "; the statistics on its expression go with it"
    saves = situation.saving(index)
    unknown = _not_known(situation)
    if age is None or age < situation.min_age_days:
        window = "a time that is not known" if age is None else span(age)
        evidence = (
            f"no scan in {window}: too short to call it unused (observe.unused_min_age_days = {situation.min_age_days:g})"
        )
        yield finding(index, FindingKind.UNUSED, "info", "; ".join([evidence, *unknown]), risk=risk, fix="", saves=saves)
        return
    evidence = f"no scan in the {span(age)} since the statistics were reset"
    if situation.in_recovery:
        yield finding(
            index, FindingKind.UNUSED, "info", evidence + ", on this standby",
            risk=risk + "; scans on the primary are not in this figure", fix="", saves=saves,
        )  # fmt: skip
        return
    asked = [
        f"none on the standby {use.name} in {_window(use, situation)}" for use in situation.asked or () if not use.reason
    ]
    if unknown:
        yield finding(
            index,
            FindingKind.UNUSED,
            "info",
            "; ".join([evidence + " here", *asked, *unknown]),
            risk=risk,
            fix="",
            saves=saves,
        )
        return
    yield finding(
        index, FindingKind.UNUSED, "warning", "; ".join([evidence, *asked]), risk=risk, fix=index.drop_ddl(), saves=saves
    )


def _rarely(shape: Shape, situation: Situation) -> Iterable[HealthFinding]:
    """From 16 on the last scan has a time: an index may have been scanned often, and long ago."""
    index = shape.facts
    if index.last_scan is None or situation.in_recovery or _not_known(situation):
        return
    newest = max(
        [index.last_scan, *(use.last_scans[index.oid] for use in situation.asked or () if index.oid in use.last_scans)]
    )
    if any(use.scans.get(index.oid) and index.oid not in use.last_scans for use in situation.asked or ()):
        return
    days = (situation.now - newest).total_seconds() / 86_400
    if days < max(RARELY_DAYS, situation.min_age_days):
        return
    yield finding(
        index, FindingKind.UNUSED, "info", f"the last of its {count(index.scans)} scans was {span(days)} ago",
        risk="a job that runs once a quarter may still need it", fix=index.drop_ddl(),
        saves=situation.saving(index),
    )  # fmt: skip


def _not_known(situation: Situation) -> list[str]:
    """Nodes whose use is not known, or not for long enough, each in words."""
    found: list[str] = []
    if situation.asked is None:
        if situation.standbys:
            found.append(
                f"{situation.standbys} connected standbys were not asked: name them in `standbys` of the target"
                " (or [] when none of them serves reads)"
            )
        return found
    for use in situation.asked:
        if use.reason:
            found.append(f"the standby {use.name} could not be asked ({use.reason})")
            continue
        age = None if use.since is None else (situation.now - use.since).total_seconds() / 86_400
        if age is None or age < situation.min_age_days:
            window = "a time that is not known" if age is None else span(age)
            found.append(f"the standby {use.name} has counted for {window} only")
    return found


def _window(use: StandbyUse, situation: Situation) -> str:
    return "a time that is not known" if use.since is None else span((situation.now - use.since).total_seconds() / 86_400)
