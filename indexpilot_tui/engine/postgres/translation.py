"""psycopg's errors in the operator's words: one message, what is at fault, the remedy. DETAIL holds row values: left out."""

from __future__ import annotations

import re

import psycopg
from psycopg import errors as pg

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import ConnectError, IndexPilotError, PrivilegeError, ServerError
from indexpilot_tui.settings.model import Target

# first match wins: what libpq or the server says when a connection cannot be made, and what to do about it
_CONNECT: tuple[tuple[str, str], ...] = (
    (
        r"certificate verify failed",
        "the server's certificate was not signed by the CA in sslrootcert: check that file, then the host",
    ),
    (
        r"does not match host name|for \".*\" .* does not match",
        "name the host as the certificate does, or use host=NAME hostaddr=IP",
    ),
    (r"root certificate file .* does not exist", "set sslrootcert=FILE to the CA certificate of the server"),
    (r"server does not support SSL", "turn ssl=on on the server; production sessions are never sent in clear"),
    (r"SSL error|sslv3|tlsv1|handshake", "compare the TLS versions and certificates of both sides"),
    (
        r"server requested a cleartext password",
        "nothing was sent: let the server ask for scram-sha-256; where it cannot (LDAP, IAM tokens), set allow_auth:"
        " [password] with sslmode=verify-full",
    ),
    (
        r"server requested a hashed password",
        "nothing was sent: give the role a SCRAM password and pg_hba.conf scram-sha-256, or set allow_auth: [md5]",
    ),
    (
        r"server did not complete authentication|server requested .* authentication|method requirement",
        "whoever answers there asked for no proof (trust, or a certificate): set allow_auth: [none] or [certificate] for"
        " this target if that is meant",
    ),
    (
        r"channel binding",
        "somebody may stand in between: set sslmode=verify-full, or channel_binding: prefer for a pooler that cannot do it",
    ),
    (
        r"password authentication failed",
        "check the user and the password source (.pgpass, PGPASSWORD, password_command)",
    ),
    (r"no password supplied", "put the password into .pgpass (mode 0600), PGPASSWORD or password_command"),
    (r"no pg_hba.conf entry", "let the server's pg_hba.conf admit this user from this host with TLS"),
    (r"database .* does not exist", "check dbname"),
    (r"role .* does not exist|role .* is not permitted", "check user"),
    (r"could not translate host|Name or service|resolve|nodename|getaddrinfo", "check host"),
    (r"Connection refused|No such file", "check host and port, and that the server runs"),
    (r"timeout|timed out", "check host, port and firewall; connect_timeout sets how long to wait"),
    (
        r"too many (clients|connections)|remaining connection slots",
        "free connections on the server, or give this role a reserve",
    ),
    (r"starting up|shutting down|not yet accepting", "wait for the server and try again"),
    (r"service .* not found", "check the service name and pg_service.conf"),
)


def _where(target: Target | None) -> str | None:
    if target is None:
        return None
    return target.name or target.host or "target"


# a gate shows the message alone: what to do is in it
_NO_TEXTS = (
    "the server gives no text of pg_stat_statements, since another database (SQL_ASCII perhaps) has a statement that is none"
    " in this one's encoding; pg_stat_statements_reset(0, OID_OF_THAT_DATABASE, 0) forgets it (SQLSTATE 22021)"
)


def translate(exc: psycopg.Error, what: str, *, target: Target | None = None, question: str = "") -> IndexPilotError:
    """The IndexPilotError for a psycopg error. `what` names the deed in a few words (cleaned text); `question`: what was
    sent."""
    if isinstance(exc, pg.CharacterNotInRepertoire) and "pg_stat_statements" in question:
        return ServerError(_NO_TEXTS)
    primary = exc.diag.message_primary if exc.diag and exc.diag.message_primary else str(exc)
    message = clean_line(primary, 500)
    if target is not None or (isinstance(exc, psycopg.OperationalError) and exc.sqlstate is None):
        for pattern, remedy in _CONNECT:
            if re.search(pattern, message, re.IGNORECASE):
                return ConnectError(
                    f"cannot connect: {message}" if what == "connect" else message, field=_where(target), remedy=remedy
                )
        if what == "connect":
            remedy = "check that a PostgreSQL server answers at this host and port, and what its log says"
            return ConnectError(f"cannot connect: {message}", field=_where(target), remedy=remedy)
        return ConnectError(f"{message} (during: {what})", field=_where(target))
    if isinstance(exc, pg.InsufficientPrivilege):
        return PrivilegeError(
            f"{message} (during: {what})", remedy="grant the role what the message names; setup-sql prints the recipe"
        )
    if isinstance(exc, pg.AdminShutdown | pg.CrashShutdown | pg.CannotConnectNow):
        return ConnectError(f"the server ended the session: {message}")
    return ServerError(f"{message} (SQLSTATE {exc.sqlstate or 'none'}, during: {what})")
