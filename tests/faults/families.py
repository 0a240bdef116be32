"""The 27 families of faults (safe-index-changes.md, section 4), in one place.

`@pytest.mark.family(n)` says which one a test injects. A test outside tests/faults, or one that makes no change, says why
the common oracle has nothing to judge: `family(22, no_oracle="sessions only, nothing is changed")`.
"""

from __future__ import annotations

FAMILIES: dict[int, str] = {
    1: "blockers: old snapshot, writer, prepared transaction, pg_dump, open cursor",
    2: "rivals that kill a build by deadlock, one per statement",
    3: "a deploy's ALTER TABLE queues behind the build",
    4: "two consoles, two changes on one table, 20 claims for 5 slots",
    5: "SIGKILL, SIGTERM, SIGHUP, SIGINT, SIGSTOP of the engine in each state",
    6: "SIGKILL of the console only",
    7: "network: reset, silent drop, on one session only, latency",
    8: "terminated sessions, limits forced on the login or the database",
    9: "a pooler in between, transaction and session mode",
    10: "server: backend killed, immediate stop, restart, promotion",
    11: "a synchronous standby that stalls, and a cancel",
    12: "disk full, temp_file_limit, temp_tablespaces full",
    13: "UNIQUE: duplicates before and during, cancel in the last phase",
    14: "DROP: cancelled in each wait; what may not be dropped",
    15: "REINDEX: cancelled in each wait; names of leftovers",
    16: "the running build of somebody else",
    17: "rate across databases, clocks, time zones, the window's end in mid-build",
    18: "a load metric that fails, hangs, returns NULL or garbage",
    19: "control schema missing, read-only, locked; audit or local copy cannot be written",
    20: "approval: self, same person, stale, expired, edited, revoked",
    21: "emergency bypass: expires in the queue, in mid-build, after a restart",
    22: "TLS: wrong CA, wrong name, off, socket, service file, environment",
    23: "hostile names and query texts",
    24: "secrets: canary in every place that is written",
    25: "audit: edited, deleted, reordered, cut, replayed",
    26: "no progress row: waiting for the table's lock",
    27: "soak: random changes with random faults",
}
