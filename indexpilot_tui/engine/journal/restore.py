"""A backup put back into an empty control schema: all of it in one transaction, or nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from indexpilot_tui.engine.journal.backup import BackupFile
from indexpilot_tui.engine.journal.backup_check import Checked
from indexpilot_tui.engine.journal.chain import Verifier
from indexpilot_tui.engine.journal.journal import Journal
from indexpilot_tui.engine.postgres.queries import load
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import PrivilegeError, RefusedError

_BATCH = 200  # rows of one statement
_PACKAGE = __package__


@dataclass(frozen=True, slots=True)
class Restored:
    """What is there now. `chain_id`: the log goes on under a new name, so that heads of the lost one stay apart."""

    rows: dict[str, int]
    chain_id: str
    seq: int


def _batches(file: BackupFile) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its rows, so many of one table at a time."""
    for table, found in groupby(file.rows(), key=lambda pair: pair[0]):
        rows = (row for _, row in found)
        while batch := list(islice(rows, _BATCH)):
            yield table, batch


async def restore(journal: Journal, path: Path, checked: Checked) -> Restored:
    """Put a checked file into the control schema of this session. The chain is verified again as it then stands there,
    before anything is committed. No change starts afterwards until an approver allows it.

    Raises PrivilegeError (neither superuser nor indexpilot_owner), JournalRefusedError (not empty, other kind), RefusedError
    (the file was altered meanwhile).
    """
    if not await journal.session.value(load(_PACKAGE, "may_restore")):
        user = clean_line(journal.session.facts.session_user)
        raise PrivilegeError(
            f"{user} may not restore a control schema",
            remedy=f"as a superuser, or after GRANT indexpilot_owner TO {user}, to be revoked again at once",
        )
    file, rows = BackupFile(path), dict[str, int]()
    async with journal.session.conn.transaction():
        await journal.restoring("begin(%s)", (checked.header.multi_tenant,))
        for table, batch in _batches(file):
            count = await journal.restoring("rows(%s, %s::jsonb)", (table, json.dumps(batch)))
            rows[table] = rows.get(table, 0) + int(count)
        if (file.sha256, rows) != (checked.sha256, dict(checked.rows)):
            raise RefusedError("the file changed while it was read", field="FILE", value=str(path))
        report = await journal.recompute(Verifier())
        if not report.ok or report.head != (checked.header.seq, checked.header.hash):
            raise RefusedError(f"the log does not hold as it was restored: {report.reason or 'another head'}")
        detail = {
            "taken_at": checked.header.taken_at,
            "taken_by": checked.header.taken_by,
            "sha256": checked.sha256,
            "from": {"system_identifier": checked.header.system_identifier, "database": checked.header.database},
            "rows": rows,
            "log_rows_lost": checked.lost,
        }
        chain_id = str(await journal.restoring("end(%s::jsonb)", (json.dumps(detail),)))
    await journal.keep_head(None, "restored")
    return Restored(rows, chain_id, (await journal.head()).seq)
