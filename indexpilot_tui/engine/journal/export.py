"""The log as text for others: JSON lines that can be verified without the database, and Markdown to be read.

Nothing in it can act on whoever opens it. JSON is plain ASCII, so a control character in a name stands there as an escape
and the text that was hashed is kept to the byte; Markdown is cleaned, and every character that could be markup is escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from indexpilot_tui.engine.journal.anchor import Head, read_anchors
from indexpilot_tui.engine.journal.chain import ChainReport, Verifier
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import UsageError

COLUMNS = (
    "seq",
    "at",
    "change_id",
    "epoch",
    "actor",
    "client_addr",
    "claimed",
    "action",
    "detail",
    "tenant_id",
    "prev_hash",
    "hash",
)
_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&@])")
_LINK = re.compile(r"(?i)\b(https?|ftp|mailto|www)(?=[:.])")
_MAX_CELL = 400
_TABLE = ("| row | at (UTC) | change | actor | action | detail |", "| ---: | --- | ---: | --- | --- | --- |")


def json_line(row: Mapping[str, Any], chain_id: str) -> str:
    """One row, as it was hashed, and the chain that it is of."""
    data = {"chain_id": chain_id} | {name: row[name] for name in COLUMNS}
    data["at"] = row["at"].astimezone(UTC).isoformat(timespec="microseconds")
    return json.dumps(data, ensure_ascii=True)


def markdown_head(report: ChainReport | None) -> Iterator[str]:
    """What the verifier says of the chain, and the head of the table. None: the rows of one tenant, which prove nothing."""
    if report is None:
        yield from (
            "# Mutation log",
            "",
            "The rows of one tenant; the chain is verified by who sees all of them.",
            "",
            *_TABLE,
        )
        return
    state = f"holds, {report.rows} rows" if report.ok else f"IS BROKEN at row {report.first_bad_seq}: {report.reason}"
    yield "# Mutation log"
    yield ""
    yield f"Chain `{report.chain_id}` {cell(state)}; head: row {report.head[0]}, `{report.head[1]}`."
    if report.cut is not None:
        yield f"Rows up to {report.cut.last_seq} were removed by retention ({report.cut.older_than_days} days)."
    yield ""
    yield from _TABLE


def markdown_row(row: Mapping[str, Any]) -> str:
    """One row of the table."""
    at = row["at"].astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    detail = "; ".join(f"{key}: {_text(value)}" for key, value in json.loads(row["detail"]).items())
    change = "" if row["change_id"] is None else str(row["change_id"])
    return f"| {row['seq']} | {at} | {change} | {cell(row['actor'])} | {cell(row['action'])} | {cell(detail)} |"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def cell(text: str) -> str:
    """Text that stays text in any Markdown: no markup, no link, no HTML, no second cell."""
    return _LINK.sub(r"\1\\", _MARKUP.sub(r"\\\1", clean_line(text, _MAX_CELL)))


def read_export(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of JSON lines. Raises UsageError, with the line that is none."""
    try:
        with path.open(encoding="ascii", errors="strict") as file:
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                    row["at"] = datetime.fromisoformat(row["at"])
                    found = {name: row[name] for name in ("chain_id", *COLUMNS)}
                except (ValueError, KeyError, TypeError):
                    raise UsageError("is not a row of the log", field="--file", value=f"{path}, line {number}") from None
                yield found
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "not plain ASCII"
        raise UsageError(f"cannot be read ({why})", field="--file", value=str(path)) from None


def verify_export(path: Path, anchors: Path | None = None) -> ChainReport:
    """The chain of an export, without a database. Where it ends nobody but anchors can tell."""
    first = next(read_export(path), None)
    chain_id = str(first["chain_id"]) if first is not None else ""
    kept = read_anchors(anchors, Head(chain_id, "", "", 0, "")) if anchors is not None else None
    verifier = Verifier(kept.hashes, watched=frozenset(o.seq for o in kept.others)) if kept is not None else Verifier()
    for row in read_export(path):
        if row["chain_id"] != chain_id:
            raise UsageError("holds rows of two logs", field="--file", value=str(path))
        verifier.feed(row)
    report = verifier.report((verifier.seq, verifier.hash), chain_id)
    return report if kept is None else kept.judged(report, verifier.restored, verifier.hashes)
