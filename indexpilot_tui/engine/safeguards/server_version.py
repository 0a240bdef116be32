"""Minor versions whose concurrent index builds are known to corrupt."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, number

NAME = "server_version"


def refusal(version: int, max_prepared: int) -> str:
    """Why a `server_version_num` is refused, or an empty string.

    14.0 to 14.3: CREATE INDEX / REINDEX CONCURRENTLY can miss rows (fixed in 14.4, its release notes). Below 13.2 the
    same with prepared transactions (release notes of 13.2).
    """
    if version < 130000:
        return "PostgreSQL older than 13 is not supported"
    if 140000 <= version < 140004:
        return "14.0 to 14.3 build corrupt indexes concurrently (fixed in 14.4)"
    if version < 130002 and max_prepared > 0:
        return "before 13.2 a concurrent build can miss rows of prepared transactions"
    return ""


async def read(ctx: GateContext) -> list[Verdict]:
    row = await ctx.session.row(ctx.sql("server_version"))
    version = int(number(row, "version"))
    why = refusal(version, int(number(row, "max_prepared")))
    shown = f"{version // 10000}.{version % 10000}"
    if why:
        return answer(NAME, Status.BLOCK, f"{why}: update the server first", measured=shown, limit="13.2+, not 14.0-14.3")
    return answer(NAME, Status.PASS, "no known defect in concurrent builds", measured=shown, limit="13.2+, not 14.0-14.3")


GATE = Gate(NAME, "", read, target_wide=True)
