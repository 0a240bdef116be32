"""May this login act as the owner of the table? No GRANT on the table gives that right."""

from __future__ import annotations

from psycopg import sql

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, flag

NAME = "privilege"


def _quoted(name: str) -> str:
    return clean_line(sql.Identifier(name).as_string(None))


async def read(ctx: GateContext) -> list[Verdict]:
    """Ownership through SET ROLE (with its own option from 16 on), and CREATE on the schema for a new index.

    Measured: CREATE INDEX needs both (42501 without), DROP needs ownership only. Reference: safe-index-changes 5.2.
    """
    plan = ctx.the_plan
    row = await ctx.session.row(ctx.sql("privilege"), {"table_oid": plan.table_oid})
    if row is None:
        return answer(
            NAME,
            Status.BLOCK,
            f"the table {clean_line(plan.schema)}.{clean_line(plan.table)} that was planned for is gone",
            measured="no such table",
            limit=f"table with OID {plan.table_oid}",
        )
    owner, login = str(row["owner"]), str(row["login"])
    if not flag(row, "may_act"):
        option = " WITH INHERIT FALSE, SET TRUE" if ctx.session.facts.server_version >= 160000 else ""
        return answer(
            NAME,
            Status.BLOCK,
            f"{clean_line(login)} may not act as the owner of the table: GRANT {_quoted(owner)} TO {_quoted(login)}{option}",
            measured="not a member",
            limit=f"member of {clean_line(owner)}",
        )
    if plan.kind == "create" and not flag(row, "may_create"):
        schema = str(row["schema"])
        return answer(
            NAME,
            Status.BLOCK,
            f"the owner may not create in the schema: GRANT CREATE ON SCHEMA {_quoted(schema)} TO {_quoted(owner)}",
            measured="no CREATE",
            limit=f"CREATE on {clean_line(schema)}",
        )
    if owner != plan.owner:
        return answer(
            NAME,
            Status.BLOCK,
            "the table has another owner than when the change was planned: propose it again",
            measured=clean_line(owner),
            limit=clean_line(plan.owner),
        )
    return answer(
        NAME,
        Status.PASS,
        f"{clean_line(login)} may act as {clean_line(owner)}",
        measured="member",
        limit=f"member of {clean_line(owner)}",
    )


GATE = Gate(NAME, "", read)
