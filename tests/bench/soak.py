"""Random changes with random faults, on a table and on a partitioned one, under pgbench and readers and writers whose waits are
measured; the common oracle after each.

    python -m tests.bench.soak [--changes 200] [--seed 1] [--resume FILE] [--first N]

Each batch of ten changes has a database of its own, by turns on PostgreSQL 15 over TLS, which is stopped and started again, and on
the embedded 18, of which a backend is killed. With --resume what was played is kept in FILE, and a run that was cut off goes on
after its last whole batch. --first plays the batches from that change on, to look at one of them again. Ends with 1 when the oracle
did not hold, and prints what did not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from indexpilot_tui.localpg import LocalCluster
from tests.faults import oracle
from tests.faults.busy import busy_workshop
from tests.faults.soaking import play
from tests.servers import TlsServer, start_tls_server

BATCH = 10
# synchronous_commit: a row of the journal whose commit was answered must be there after a crash of the server
EMBEDDED = {
    "shared_preload_libraries": "pg_stat_statements", "max_connections": "120", "autovacuum": "off", "synchronous_commit": "on",
}  # fmt: skip


async def batch(server: LocalCluster | TlsServer, seed: int, first: int, count: int) -> list[dict[str, Any]]:
    played = []
    with oracle.case(None):
        async with busy_workshop(server) as workshop:
            for number in range(first, first + count):
                one = await play(workshop, random.Random(f"{seed}/{number}"), number)
                print(f"{one.number + 1:>4} {one.what[:44]:44} {one.fault[:62]:62} {one.state:11} {one.seconds:5.1f} s"
                      f"  {'HELD' if not one.violations else 'VIOLATED'}", flush=True)  # fmt: skip
                for violation in one.violations:
                    print(f"     {violation}", flush=True)
                played.append(asdict(one))
            workshop.not_asked = "asked after each change"
    return played


def _kept(path: Path | None, seed: int) -> list[dict[str, Any]]:
    if path is None or not path.exists():
        return []
    kept = json.loads(path.read_text("utf-8"))
    if kept["seed"] != seed:
        raise SystemExit(f"{path} was played with --seed {kept['seed']}, not {seed}: name that one")
    played: list[dict[str, Any]] = kept["played"]
    return played


def report(done: list[dict[str, Any]], seed: int) -> int:
    """Print what became of them; how many the oracle did not hold for."""
    print(
        f"\n{len(done)} changes, seed {seed}, {sum('app.p' in one['what'] for one in done)} of them on the partitioned table"
    )
    ends = Counter((one["fault"].split(",")[0], one["state"]) for one in done)
    for fault in sorted({fault for fault, _ in ends}):
        said = ", ".join(f"{count} {state}" for (name, state), count in sorted(ends.items()) if name == fault)
        print(f"  {fault:32} {said}")
    violated = [one for one in done if one["violations"]]
    print(f"oracle held {len(done) - len(violated)} of {len(done)}; longest wait of a reader or writer because of us: "
          f"{max(one['stall_s'] for one in done):.2f} s")  # fmt: skip
    for one in violated:
        print(f"{one['number'] + 1}: {one['what']} / {one['fault']}: " + "\n    ".join((*one["violations"], one["story"])))
    return len(violated)


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="the first change of a batch: 1, 11, 21 ...")
    parser.add_argument("--resume", type=Path)
    args = parser.parse_args()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)  # servers and pgbench go with it
    done = _kept(args.resume, args.seed)
    start = (args.first - 1) // BATCH * BATCH
    async with await LocalCluster.start("soak", settings=EMBEDDED) as cluster:
        over_tls = await asyncio.to_thread(start_tls_server)
        try:
            while len(done) < args.changes:
                first = start + len(done)
                server = cluster if first // BATCH % 2 else over_tls
                done += await batch(server, args.seed, first, min(BATCH, args.changes - len(done)))
                if args.resume is not None:
                    args.resume.write_text(json.dumps({"seed": args.seed, "played": done}), "utf-8")
        finally:
            over_tls.remove()
    return 1 if report(done, args.seed) else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
