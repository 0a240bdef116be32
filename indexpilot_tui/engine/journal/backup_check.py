"""Whether what a backup says can be true: the chain of its log holds, and the log tells of what the other tables claim.

Who can write a file can make its SHA-256 fit again, and who rewrites the log as well can make the chain fit. So heads that
were kept outside are compared (`anchors`), and the SHA-256 that was printed when the backup was written can be asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from indexpilot_tui.engine.journal.anchor import Head, read_anchors
from indexpilot_tui.engine.journal.backup import BackupFile, Header
from indexpilot_tui.engine.journal.chain import ChainReport, Verifier
from indexpilot_tui.engine.journal.setup import SCHEMA_VERSION
from indexpilot_tui.engine.model.change import END_STATES
from indexpilot_tui.errors import RefusedError, UsageError


@dataclass(frozen=True, slots=True)
class Checked:
    """A file that may be restored. `lost`: how many rows the log had, by the heads kept outside, that are not in it."""

    header: Header
    rows: Mapping[str, int]
    sha256: str
    report: ChainReport
    lost: int | None


@dataclass(slots=True)
class _Story:
    """What the log tells, beside what the tables claim."""

    proposed: dict[int, str] = field(default_factory=dict)
    approved: set[tuple[int, str, str]] = field(default_factory=set)
    resolved: set[tuple[int, str]] = field(default_factory=set)
    policy: dict[str, Any] = field(default_factory=dict)

    def feed(self, row: Mapping[str, Any]) -> None:
        detail = json.loads(row["detail"])
        if row["action"] == "proposed":
            self.proposed[row["change_id"]] = detail["plan_sha256"]
        elif row["action"] == "approved":
            self.approved.add((row["change_id"], row["actor"], detail["plan_sha256"]))
        elif row["action"] == "resolved":
            self.resolved.add((row["change_id"], row["actor"]))
        elif row["action"] == "policy.changed":
            self.policy |= detail["to"] or {}


def check_backup(path: Path, anchors: Path | None = None, sha256: str | None = None) -> Checked:
    """Read a file whole. Raises UsageError for one that is no backup or not whole, RefusedError for one that contradicts
    itself, the heads kept outside, or the SHA-256 that it should have."""
    file = BackupFile(path)
    header = file.header
    if header.schema_version != SCHEMA_VERSION:
        raise UsageError(
            f"is of version {header.schema_version} of the control schema, this program has {SCHEMA_VERSION}",
            field="FILE", value=str(path), remedy=f"restore it with IndexPilot {header.program}",
        )  # fmt: skip
    kept = None
    if anchors is not None:
        head = Head(header.chain_id, header.system_identifier, header.database, header.seq, header.hash)
        kept = read_anchors(anchors, head)
    hashes = {seq: value for seq, value in kept.hashes.items() if seq <= header.seq} if kept is not None else {}
    watched = frozenset(other.seq for other in kept.others) if kept is not None else frozenset()
    verifier, story, tables = Verifier(hashes, watched=watched), _Story(), dict[str, list[dict[str, Any]]]()
    counts: dict[str, int] = {}
    for table, row in file.rows():
        counts[table] = counts.get(table, 0) + 1
        if table == "mutation_log":
            try:
                row["at"] = datetime.fromisoformat(row["at"])
                verifier.feed(row)
                story.feed(row)
            except (KeyError, TypeError, ValueError, AttributeError):
                raise _contradicts(path, f"row {row.get('seq')} of the log is damaged") from None
        elif table in ("changes", "approvals", "policy", "chain_head"):
            tables.setdefault(table, []).append(row)
    if sha256 is not None and file.sha256 != sha256.strip().lower():
        raise _contradicts(path, f"its SHA-256 is {file.sha256}")
    report = verifier.report((header.seq, header.hash), header.chain_id)
    if kept is not None and report.ok:
        report = kept.judged(report, verifier.restored, verifier.hashes)
    if not report.ok:
        raise _contradicts(path, report.reason)
    try:
        why = _other_story(header, tables, story, cut=report.cut is not None)
    except (KeyError, TypeError, AttributeError):
        why = "a row lacks a column"
    if why:
        raise _contradicts(path, why)
    lost = None if kept is None else max(0, max(kept.hashes, default=0) - header.seq)
    return Checked(header, counts, file.sha256, report, lost)


def _contradicts(path: Path, why: str) -> RefusedError:
    return RefusedError(
        f"this backup is not what was written: {why}", field="FILE", value=str(path), remedy="take another backup"
    )


def _other_story(header: Header, tables: Mapping[str, list[dict[str, Any]]], story: _Story, *, cut: bool) -> str:
    """Why the tables cannot be what the log tells of; empty when they can. Rows of changes that have ended may have been
    removed from the log by retention (`cut`)."""
    if len(tables.get("policy", ())) != 1 or len(tables.get("chain_head", ())) != 1:
        return "a table of one row has none, or more"
    head, policy = tables["chain_head"][0], tables["policy"][0]
    if (head["chain_id"], head["seq"], head["hash"]) != (header.chain_id, header.seq, header.hash):
        return "the head of the log is not where its first line says"
    if policy["multi_tenant"] != header.multi_tenant:
        return "its first line and the policy say different things of tenants"
    for key, value in story.policy.items():
        if key != "multi_tenant" and policy.get(key) != value:
            return f"policy.{key} is {policy.get(key)!r}, and the log says {value!r}"
    ended: set[int] = set()
    for change in tables.get("changes", ()):
        number = change["id"]
        told = story.proposed.get(number)
        if change["state"] in END_STATES:
            ended.add(number)
        if told is None and not (cut and number in ended):
            return f"the log does not tell who proposed change {number}"
        if hashlib.sha256(change["plan"].encode()).hexdigest() != change["plan_sha256"] or told not in (
            None, change["plan_sha256"],
        ):  # fmt: skip
            return f"the plan of change {number} is not the one that was proposed"
    for approval in tables.get("approvals", ()):
        number, who = approval["change_id"], approval["approver"]
        said = (number, who, approval["plan_sha256"]) in story.approved or (number, who) in story.resolved
        if not said and not (cut and number in ended):
            return f"the log does not tell that {who} approved change {number}"
    return ""
