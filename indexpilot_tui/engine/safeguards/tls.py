"""The server must have proven who it is before anything on it is changed."""

from __future__ import annotations

from indexpilot_tui.engine.model.verdict import Status, Verdict
from indexpilot_tui.engine.safeguards.context import Gate, GateContext, answer

NAME = "tls"


async def read(ctx: GateContext) -> list[Verdict]:
    """Pass with verify-full on an encrypted session, or through a unix socket where the target allows it.

    `require` encrypts but talks to anybody (measured with a certificate of a foreign CA); `verify-full` on a unix
    socket is silently not encrypted (measured). Reference: safe-index-changes 5.1.
    """
    name = ctx.target.name or "NAME"
    for session in ctx.sessions:
        tls = session.facts.tls
        if tls.unix_socket:
            setting = f"targets.{name}.allow_unix_socket_changes"
            if not ctx.target.allow_unix_socket_changes:
                return answer(
                    NAME,
                    Status.BLOCK,
                    "a unix socket has no TLS; changes through one must be allowed for this target",
                    measured="unix socket",
                    limit="verify-full",
                    setting=setting,
                )
        elif not tls.authenticated:
            what = f"sslmode={tls.sslmode}" + ("" if tls.in_use else ", not encrypted")
            return answer(
                NAME,
                Status.BLOCK,
                f"{what}: the server has not proven who it is; it may be looked at, not changed",
                measured=what,
                limit="sslmode=verify-full",
                setting=f"targets.{name}.sslmode",
            )
    control = ctx.journal.session.facts.tls if ctx.journal is not None else None
    allowed = control is None or control.authenticated or (control.unix_socket and ctx.target.allow_unix_socket_changes)
    if control is not None and not allowed:
        what = "unix socket" if control.unix_socket else f"sslmode={control.sslmode}"
        return answer(
            NAME,
            Status.BLOCK,
            f"{what} to the control schema: whoever answers there could invent approvals",
            measured=f"control {what}",
            limit="sslmode=verify-full",
            setting="control.dsn",
        )
    tls = ctx.session.facts.tls
    measured = "unix socket" if tls.unix_socket else f"sslmode={tls.sslmode}"
    return answer(
        NAME,
        Status.PASS,
        "the session does not leave this machine" if tls.unix_socket else "encrypted, certificate and name verified",
        measured=measured,
        limit="verify-full",
        setting=f"targets.{name}.{'allow_unix_socket_changes' if tls.unix_socket else 'sslmode'}",
    )


GATE = Gate(NAME, "targets.NAME.sslmode", read, target_wide=True)
