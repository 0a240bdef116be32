"""From a Target to the parameters of one connection.

libpq's own sources stay in force (PG* variables, service file, .pgpass); what the target says is passed explicitly, so
that it wins over them. A password never comes from a file of ours or from the command line.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from indexpilot_tui.errors import ConfigError, ConnectError, UsageError
from indexpilot_tui.settings.model import Target

_FIELDS = (
    "service",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "passfile",
)
_SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
PASSWORD_COMMAND_TIMEOUT_S = 15.0


def parse_dsn(dsn: str, *, field: str) -> dict[str, Any]:
    """The parameters of a libpq URI or conninfo string. The text itself is never echoed: libpq's own message can repeat
    parts of a mistyped password."""
    try:
        params = dict(conninfo_to_dict(dsn))
    except ProgrammingError:
        raise UsageError(
            "this is not a valid libpq URI or conninfo string (its text is not repeated here: it may hold a password)",
            field=field,
            remedy="write postgresql://user@host:5432/dbname?sslmode=verify-full or 'host=... dbname=... user=...'",
        ) from None
    return {key: value for key, value in params.items() if value is not None}


def refuse_secrets(params: dict[str, Any], *, field: str) -> None:
    """A secret in a configuration file or on the command line is an error: both are readable by others."""
    found = [name for name in _SECRETS if name in params]
    if found:
        raise ConfigError(
            f"{found[0]} must not stand here: files are copied and command lines are visible in ps",
            field=field,
            remedy="use .pgpass, PGPASSWORD, a service file with mode 0600, or password_command",
        )


def is_unix_socket(params: dict[str, Any]) -> bool:
    host = str(params.get("host") or os.environ.get("PGHOST") or "")
    return host.startswith(("/", "@"))


def resolve(target: Target) -> dict[str, Any]:
    """All parameters of a connection to `target` but the password, as a dict for psycopg.

    A production target whose sslmode nobody chose gets verify-full: the safe mode is the one that needs no typing.
    """
    params: dict[str, Any] = {}
    if target.dsn:
        field = f"targets.{target.name}.dsn" if target.name else "TARGET"
        params.update(parse_dsn(target.dsn, field=field))
        refuse_secrets(params, field=field)
    for name in _FIELDS:
        value = getattr(target, name)
        if value is not None:
            params[name] = value
    params.setdefault("connect_timeout", target.connect_timeout)
    params.setdefault("gssencmode", "disable")
    chosen = "sslmode" in params or "service" in params or os.environ.get("PGSSLMODE") or os.environ.get("PGSERVICE")
    if target.production and not chosen and not is_unix_socket(params):
        params["sslmode"] = "verify-full"
    return params


def places(target: Target) -> frozenset[tuple[str, str, str]]:
    """Where `target` leads: (host or address, port, database) of each of its hosts, as far as its text and libpq's variables
    tell; empty when only a service file does."""
    params = resolve(target)
    if params.get("service") or os.environ.get("PGSERVICE"):
        return frozenset()
    user = str(params.get("user") or os.environ.get("PGUSER") or "")
    database = str(params.get("dbname") or os.environ.get("PGDATABASE") or user)
    ports = str(params.get("port") or os.environ.get("PGPORT") or "5432").split(",")
    found: set[tuple[str, str, str]] = set()
    for name, variable in (("host", "PGHOST"), ("hostaddr", "PGHOSTADDR")):
        hosts = str(params.get(name) or os.environ.get(variable) or "").lower().split(",")
        found |= {(host, ports[n] if n < len(ports) else ports[-1], database) for n, host in enumerate(hosts) if host}
    return frozenset(found)


async def password_of(target: Target) -> str | None:
    """The output of `password_command`, run anew for each connection (short-lived tokens), or the variable that
    `password_env` names, or None: then libpq looks in its own places.

    Never logged. A failure is an error, not a fall-back to other passwords.
    """
    if target.password_env and not target.password_command:
        value = os.environ.get(target.password_env)
        if value is None:
            field = f"targets.{target.name}.password_env"
            raise ConnectError("this environment variable is not set", field=field, value=target.password_env)
        return value
    if not target.password_command:
        return None
    field = f"targets.{target.name}.password_command"
    try:
        process = await asyncio.create_subprocess_exec(
            *target.password_command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as exc:
        raise ConnectError(
            f"the command cannot be started ({exc.strerror})", field=field, value=target.password_command[0]
        ) from None
    try:
        out, _ = await asyncio.wait_for(process.communicate(), PASSWORD_COMMAND_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ConnectError(
            f"the command gave no answer in {PASSWORD_COMMAND_TIMEOUT_S:.0f} s", field=field, remedy="run it by hand"
        ) from None
    if process.returncode != 0 or not out.strip():
        raise ConnectError(
            f"the command ended with status {process.returncode} and {'no' if not out.strip() else 'some'} output",
            field=field,
            remedy="run it by hand; it has to print the password and exit with status 0",
        )
    try:
        return out.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConnectError(  # the decoder's own error quotes the bytes
            "the command printed something that is not UTF-8", field=field, remedy="let it print the password in UTF-8"
        ) from None
