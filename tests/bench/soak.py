"""Random changes with random faults under a reader and a writer, the common oracle after each.

    python -m tests.bench.soak [--changes 200] [--seed 1] [--resume FILE]

Each batch of changes has a database of its own. With --resume what was played is kept in FILE, and a run that was cut off
goes on after its last whole batch. Ends with 1 when the oracle did not hold, and prints what did not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from indexpilot_tui.localpg import LocalCluster
from tests.faults import oracle
from tests.faults.soaking import play, soak_settings
from tests.faults.workshop import make_workshop

BATCH = 10


async def batch(cluster: LocalCluster, seed: int, first: int, count: int) -> list[dict[str, Any]]:
    rng = random.Random(f"{seed}/{first}")
    played = []
    with oracle.case(None):
        async with make_workshop(cluster, soak_settings()) as workshop:
            for number in range(first, first + count):
                one = await play(workshop, rng, number)
                print(f"{one.number + 1:>4} {one.what[:44]:44} {one.fault[:60]:60} {one.state:11} {one.seconds:5.1f} s"
                      f"  {'HELD' if not one.violations else 'VIOLATED'}", flush=True)  # fmt: skip
                played.append(asdict(one))
            workshop.not_asked = "asked after each change"
    return played


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", type=Path)
    args = parser.parse_args()
    done: list[dict[str, Any]] = []
    if args.resume is not None and args.resume.exists():
        kept = json.loads(args.resume.read_text("utf-8"))
        if kept["seed"] != args.seed:
            parser.error(f"{args.resume} was played with --seed {kept['seed']}, not {args.seed}: name that one")
        done = kept["played"]
    settings = {"shared_preload_libraries": "pg_stat_statements", "max_connections": "120", "autovacuum": "off"}
    async with await LocalCluster.start("soak", settings=settings) as cluster:
        while len(done) < args.changes:
            done += await batch(cluster, args.seed, len(done), min(BATCH, args.changes - len(done)))
            if args.resume is not None:
                args.resume.write_text(json.dumps({"seed": args.seed, "played": done}), "utf-8")
    print(f"\n{len(done)} changes, seed {args.seed}")
    ends = Counter((one["fault"].split(",")[0], one["state"]) for one in done)
    for fault in sorted({fault for fault, _ in ends}):
        said = ", ".join(f"{count} {state}" for (name, state), count in sorted(ends.items()) if name == fault)
        print(f"  {fault:32} {said}")
    violated = [one for one in done if one["violations"]]
    print(f"oracle held {len(done) - len(violated)} of {len(done)}; longest wait of a reader or writer because of us: "
          f"{max(one['stall_s'] for one in done):.2f} s")  # fmt: skip
    for one in violated:
        print(f"{one['number'] + 1}: {one['what']} / {one['fault']}: " + "\n    ".join(one["violations"]))
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
