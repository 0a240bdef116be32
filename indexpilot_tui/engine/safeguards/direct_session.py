"""No pooler between us and the server: through one, locks and SET ROLE leak to strangers."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer, number

NAME = "direct_session"


async def read(ctx: GateContext) -> list[Verdict]:
    """Compare the process id of the greeting with the one that answers (measured with pgbouncer: they differ).

    The executor is judged by what it saw when it was opened: its connection is not asked again, it may be building.
    """
    now = int(number(await ctx.session.row(ctx.sql("own_pid")), "pid"))
    pairs = [(s.facts.client_pid, s.facts.server_pid) for s in ctx.sessions]
    for greeted, answers in [*pairs, (ctx.session.facts.client_pid, now)]:
        if greeted != answers:
            return answer(
                NAME,
                Status.BLOCK,
                "a pooler stands between us and the server: name the server's own host and port for changes",
                measured=f"greeted by {greeted}, answered by {answers}",
                limit="one process",
            )
    return answer(NAME, Status.PASS, "the server itself answers", measured=f"process {now}", limit="one process")


GATE = Gate(NAME, "", read, target_wide=True)
