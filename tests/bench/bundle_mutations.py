"""Mutations of a good bundle, made by hypothesis: each ends with a forecast or with one error, and runs nothing.

python -m tests.bench.bundle_mutations                # 500 of them
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from indexpilot_tui.engine.postgres.session import Purpose, connect
from indexpilot_tui.engine.whatif.bundle.capture import CaptureOptions, capture
from indexpilot_tui.engine.whatif.bundle.model import Bundle
from indexpilot_tui.engine.whatif.model import Forecast, Statement
from indexpilot_tui.errors import IndexPilotError
from indexpilot_tui.localpg import LocalCluster
from indexpilot_tui.settings.model import Settings
from tests.conftest import socket_target
from tests.engine.hostile_bundle import MAKE, MARK, QUERIES, SCHEMA, Trial

ODD = (None, True, -1, 0, 2**31, 2**63, -(2**70), 1e308, "", "\x01", "x" * 3000, "'", '"', ";", "--", "/*", "%s", "{}", "{1,2", "NULL",
       MAKE, f"; {MAKE}; --", f"(select pg_notify('{MARK}', 'x'))", [], [1], ["a"], {}, b"\0\xff")  # fmt: skip
TEXTS: tuple[Callable[[str], str], ...] = (
    lambda t: t[: len(t) // 2], lambda t: t + t, lambda t: t[::-1], lambda t: t.replace("(", "", 1), lambda t: f"{t}; {MAKE}",
    lambda t: t.replace(" ", "  ;", 1), lambda t: t.upper(), lambda t: f"({t})", lambda t: t.replace("app", "pg_catalog"),
)  # fmt: skip
SHARE = st.floats(0, 1, exclude_max=True)
MUTATION = st.tuples(
    SHARE, SHARE, SHARE, st.one_of(st.sampled_from(ODD), st.sampled_from(TEXTS), st.text(max_size=30), st.integers())
)
MUTATIONS = st.lists(MUTATION, min_size=1, max_size=3)


def mutated(bundle: Bundle, mutations: list[tuple[float, float, float, Any]]) -> list[str]:
    """Change some fields in place; which, as question, field and value."""
    told = []
    for question_at, row_at, field_at, value in mutations:
        questions = sorted(q for q, rows in bundle.answers.items() if rows)
        question = questions[int(question_at * len(questions))]
        rows = bundle.answers[question]
        row = rows[int(row_at * len(rows))]
        name = sorted(row)[int(field_at * len(row))]
        if callable(value):
            if not isinstance(row[name], str):
                continue
            row[name] = value(row[name])
        else:
            row[name] = value
        told.append(f"{question}.{name} = {str(row[name])[:80]!r}")
    return told


@dataclass
class Result:
    forecasts: int = 0
    errors: int = 0


def run(cluster: LocalCluster, examples: int) -> Result:
    """Raises AssertionError with the mutation that did something else than it may."""
    result = Result()
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory() as folder:
        good = runner.run(_good(cluster))
        trial = Trial(Path(folder))

        @settings(max_examples=examples, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(MUTATIONS)
        def check(mutations: list[tuple[float, float, float, Any]]) -> None:
            told: list[str] = []

            def change(bundle: Bundle) -> None:
                told.extend(mutated(bundle, mutations))

            found = runner.run(trial.of(good, change))
            assert isinstance(found, Forecast | IndexPilotError), told
            assert trial.marks() == [], told
            result.forecasts += isinstance(found, Forecast)
            result.errors += isinstance(found, IndexPilotError)

        try:
            check()
        finally:
            runner.run(trial.simulator.close())
    return result


async def _good(cluster: LocalCluster) -> Bundle:
    name = f"mutations_{secrets.token_hex(4)}"
    with psycopg.connect(cluster.conninfo(), autocommit=True) as admin:
        admin.execute(f"create database {name}".encode())
        try:
            with psycopg.connect(cluster.conninfo(name), autocommit=True) as owner:
                owner.execute(SCHEMA.encode())
                owner.execute("vacuum analyze")
            session = await connect(socket_target(cluster, name), Purpose.MONITOR, Settings())
            try:
                return copy.deepcopy(
                    await capture(session, CaptureOptions(statements=[Statement(q, q, 1.0) for q in QUERIES]))
                )
            finally:
                await session.close()
        finally:
            admin.execute(f"drop database {name} with (force)".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=500)
    examples = parser.parse_args().examples
    with asyncio.Runner() as runner:
        cluster = runner.run(LocalCluster.start("mutations", settings={"shared_preload_libraries": "pg_stat_statements"}))
        try:
            done = run(cluster, examples)
        finally:
            runner.run(cluster.stop())
    print(f"{examples} mutations: {done.forecasts} forecasts, {done.errors} errors, nothing ran")


if __name__ == "__main__":
    main()
