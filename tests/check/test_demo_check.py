"""On the demo every planted trouble is found, each with a fix that the server takes."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from indexpilot_tui.check.model import RuleStatus
from indexpilot_tui.check.run import check_target
from indexpilot_tui.demo import Demo
from indexpilot_tui.settings.model import Target
from tests.engine.observe_room import SETTINGS

PLANTED = {
    "hot_query_without_index": "(product_id)",
    "skewed_columns": "WHERE status <> 'done'",
    "unused_indexes": '"orders_reference_idx"',
    "duplicate_indexes": '"order_items_order',
    "left_prefix_indexes": '"payments_order_id_idx"',
    "invalid_indexes": '"customers_email_key"',
    "missing_fk_indexes": '("customer_id")',
}


@pytest.mark.slow
async def test_the_planted_troubles_are_found_and_their_fixes_work() -> None:
    async with await Demo.start() as demo:
        target = Target(name="demo", environment="demo", dsn=demo.monitor_conninfo)
        async with asyncio.timeout(30):  # until the workload has used what is in use
            while True:
                report = await check_target(target, SETTINGS)
                found = {rule.id: rule for rule in report.rules}
                if all(found[rule].status is RuleStatus.WARNING for rule in PLANTED):
                    break
                await asyncio.sleep(1)
        assert not [rule for rule in report.rules if rule.status in (RuleStatus.UNKNOWN, RuleStatus.CRITICAL)]
        for rule, words in PLANTED.items():
            assert words in found[rule].fix, found[rule]
        async with await psycopg.AsyncConnection.connect(demo.cluster.conninfo("shop"), autocommit=True) as conn:
            for rule in PLANTED:
                for fix in found[rule].fix.splitlines():
                    await conn.execute(fix.encode())
        after = {rule.id: rule.status for rule in (await check_target(target, SETTINGS)).rules}
    for rule in ("skewed_columns", "duplicate_indexes", "left_prefix_indexes", "invalid_indexes", "missing_fk_indexes"):
        assert after[rule] is RuleStatus.OK, rule
