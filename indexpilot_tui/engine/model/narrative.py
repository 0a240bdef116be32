"""The rows of a change's log in words. The row itself, with every figure, is in `audit show`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

Detail = Mapping[str, Any]
TABLE_LOCK = "waiting for the table's lock"  # the server shows no progress of a build then (measured)
_INTENTS = {"ddl", "repair", "finish"}  # an action of the name with .intent sends a statement


def told(action: str, detail: Detail) -> str:
    """What happened, in one line of server text (not cleaned). An action without words of its own is told as it stands."""
    words = _WORDS.get(action)
    room, _, moment = action.partition(".")
    if words is not None:
        return words(detail)
    if moment == "intent" and "ddl" in detail:
        return f"sends {detail['ddl']}"
    if moment == "outcome":
        return _outcome(room, detail)
    return " ".join(part for part in (action.replace("_", " "), _pairs(detail)) if part)


def _pairs(detail: Detail) -> str:
    """The detail as `key value` pairs, a change of state first."""
    rest = dict(detail)
    parts = [f"{rest.pop('from')} → {rest.pop('to')}"] if {"from", "to"} <= rest.keys() else []
    for key, value in rest.items():
        if value not in (None, "", [], {}) and not key.endswith("sha256"):
            parts.append(f"{key} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)}")
    return " · ".join(parts)


def _time(value: Any) -> str:
    try:
        return datetime.fromisoformat(str(value)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except ValueError:
        return str(value)


def _outcome(room: str, detail: Detail) -> str:
    what = "the statement" if room in _INTENTS else room.replace("_", " ")
    if detail.get("ok"):
        return f"{what} ended without an error"
    return f"{what} failed: {_pairs({k: v for k, v in detail.items() if k != 'ok'})}"


def _gates(detail: Detail) -> str:
    changed = [v for v in detail.get("changed") or () if isinstance(v, Mapping)]
    shut = [f"{v.get('guard')} {v.get('status')}" for v in changed if v.get("status") != "pass"]
    passed = len(changed) - len(shut)
    first = f"gates: {passed} pass" if passed or not shut else "gates:"
    return first + (f"{', ' if passed else ' '}not open: {', '.join(shut)}" if shut else "")


def _phase(detail: Detail) -> str:
    parts = [str(detail.get("phase") or "at work")]
    for name, unit in (("blocks", "blocks"), ("tuples", "rows"), ("lockers", "older transactions waited for")):
        if total := detail.get(f"{name}_total"):
            parts.append(f"{detail.get(f'{name}_done') or 0} of {total} {unit}")
    if detail.get("phase") == TABLE_LOCK:
        parts += [f"held by {who}" for who in detail.get("held_by") or ()]
    elif detail.get("locker_pid"):
        parts.append(f"waits for pid {detail['locker_pid']}")
    return ", ".join(parts)


def _index(detail: Detail) -> str:
    if detail.get("oid") is None:
        return "the index is not in the catalog"
    return f"index oid {detail['oid']}, {'valid' if detail.get('valid') else 'not valid'}"


def _verified(detail: Detail) -> str:
    if detail.get("gone"):
        return "proven by the catalog: the index is gone"
    answers = [name if detail[name] else f"NOT {name}" for name in ("valid", "ready", "live") if name in detail]
    return f"proven by the catalog: {', '.join(answers)}" if answers else f"verified {_pairs(detail)}"


def _claimed(detail: Detail) -> str:
    attempt = detail.get("attempt")
    return f"taken up by an executor{f', attempt {attempt}' if attempt and attempt != 1 else ''}"


def _stats(detail: Detail) -> str:
    return f"counters of {detail.get('queries', 0)} statements kept ({detail.get('phase')})"


_WORDS: dict[str, Callable[[Detail], str]] = {
    "proposed": lambda d: f"proposed {d.get('ddl', '')}",
    "approved": lambda d: f"approved until {_time(d.get('expires_at'))}",
    "rejected": lambda d: f"rejected: {d.get('reason', '')}",
    "withdrawn": lambda d: f"withdrawn: {d.get('reason', '')}",
    "expired": lambda d: f"expired at {_time(d.get('at'))}",
    "gates": _gates,
    "claimed": _claimed,
    "takeover": lambda _: "taken over from an executor that is gone",
    "backend": lambda d: f"the executor has backend pid {d.get('pid')}",
    "stats": _stats,
    "phase": _phase,
    "index": _index,
    "verify.intent": lambda d: (
        f"the catalog is read again by OID {d['oid']}" if d.get("oid") else "the catalog is read again"
    ),
    "verified": _verified,
    "verification": lambda d: f"verdict {d.get('verdict')}: {d.get('reason', '')}",
    "observed": lambda d: f"the watch is over: {d.get('outcome', '')}",
    "waiting": lambda d: f"waits: {d.get('for', '')}; {d.get('remedy') or 'it goes on by itself when that is over'}",
    "catalog": lambda d: f"the catalog says: {d.get('sentence', '')}",
    "apply.refused": lambda d: f"did not start: {d.get('outcome', '')}",
    "abort.requested": lambda d: f"told to stop: {d.get('reason', '')}",
    "rolled_back": lambda d: f"taken back by change {d.get('by_change')}",
    "cleaned": lambda _: "nothing of it is left in the catalog",
}
