"""Who may log us in, decided before the login: which methods may ask for a password, whether the channel is bound to it, and
whether a production target is reached over TLS at all. A server that asks for something else gets nothing.

libpq does the refusing (`require_auth`, `channel_binding`: PostgreSQL 16's libpq and later), before a byte of the password
is sent. SCRAM proves to both sides that the other knows the password, and tells an impostor nothing to use later; cleartext
and MD5 do. With channel binding the proof is worth nothing on another connection, so nobody in the middle can pass it on.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import psycopg
from psycopg import pq

from indexpilot_tui.errors import ConfigError, ConnectError
from indexpilot_tui.settings.model import Target

SCRAM = "scram-sha-256"
OLDEST_LIBPQ = 160000  # require_auth
ENCRYPTED = ("require", "verify-ca", "verify-full")
IN_CLEAR = ("password", "md5")  # what an impostor could use: the password itself, or a hash that is as good
_SERVICE = threading.Lock()
_NO_BINDING = "channel binding is required, but server did not offer"
# targets whose server, proven by its certificate, offers no channel binding (a pooler; a certificate without a digest)
_unbound: set[tuple[tuple[str, str], ...]] = set()


def effective(params: dict[str, Any]) -> dict[str, str]:
    """What libpq will use: `params`, else the service file, PG* variables and its own defaults, as it finds them itself."""
    explicit = {key: str(value) for key, value in params.items() if value is not None}
    service = explicit.get("service")
    with _SERVICE:  # libpq tells what a service file holds only of the service that the environment names
        before = os.environ.get("PGSERVICE")
        try:
            if service:
                os.environ["PGSERVICE"] = service
            found = {o.keyword.decode(): (o.val or b"").decode() for o in pq.Conninfo.get_defaults() if o.val is not None}
        finally:
            if service and before is None:
                del os.environ["PGSERVICE"]
            elif service and before is not None:
                os.environ["PGSERVICE"] = before
    if explicit.get("sslrootcert") == "system" and "sslmode" not in explicit and found.get("sslmode", "prefer") == "prefer":
        found["sslmode"] = "verify-full"  # libpq: sslrootcert=system implies it
    return found | explicit


def on_socket(used: dict[str, str]) -> bool:
    """Whether every host that could answer is a unix socket of this machine."""
    hosts = (used.get("hostaddr") or used.get("host") or "/").split(",")
    return all(host.startswith(("/", "@")) for host in hosts)


def sslmode_fault(target: Target, used: dict[str, str]) -> str:
    """Why this production target may not even be asked for a login; empty when it may, or is none."""
    mode = used.get("sslmode") or "prefer"
    if not target.production or on_socket(used) or mode in ENCRYPTED:
        return ""
    return f"the session may be one that is not encrypted (sslmode={mode}), and this target is a production one"


def check(target: Target, used: dict[str, str]) -> None:
    """Raises ConnectError or ConfigError for what must not be tried: production in clear, a cleartext password to a server
    that has not proven who it is, a libpq that cannot refuse one."""
    if pq.version() < OLDEST_LIBPQ:
        raise ConnectError(
            "this libpq cannot refuse a server that asks for the password in clear",
            field="libpq", value=str(pq.version()), remedy="use libpq 16 or newer: pip install 'psycopg[binary]'",
        )  # fmt: skip
    fault = sslmode_fault(target, used)
    if fault:
        raise ConnectError(
            fault, field=f"{_field(target)}.sslmode", value=used.get("sslmode"),
            remedy="set sslmode=verify-full and sslrootcert=FILE; the server needs ssl=on",
        )  # fmt: skip
    weak = [method for method in target.allow_auth if method in IN_CLEAR]
    if weak and not on_socket(used) and used.get("sslmode") != "verify-full":
        raise ConfigError(
            f"{weak[0]} gives the password to whoever answers, so it goes with sslmode=verify-full only",
            field=f"{_field(target)}.allow_auth", value=", ".join(target.allow_auth),
            remedy="set sslmode=verify-full and sslrootcert=FILE",
        )  # fmt: skip
    for key, strict in (("require_auth", SCRAM), ("channel_binding", "require")):
        if not on_socket(used) and _said(target).get(key, strict) != strict:
            raise ConfigError(
                "which methods may log us in is said by the configuration", field=f"{_field(target)}.dsn", value=key,
                remedy=f"leave {key} out of it; set targets.NAME.{'allow_auth' if key == 'require_auth' else key}",
            )  # fmt: skip


def _said(target: Target) -> dict[str, Any]:
    from indexpilot_tui.engine.postgres.conninfo import parse_dsn

    return parse_dsn(target.dsn, field="dsn") if target.dsn else {}


def _field(target: Target) -> str:
    return f"targets.{target.name}" if target.name else "TARGET"


def demands(target: Target, used: dict[str, str]) -> dict[str, str]:
    """`require_auth` and `channel_binding` of a connection; it names both, so that no variable and no file weakens them."""
    methods = {SCRAM, *target.allow_auth}
    wanted: dict[str, str] = {}
    if "certificate" in methods:  # the server then asks for no password; that it asked for the certificate is demanded
        methods = (methods - {"certificate"}) | {"none"}
        wanted["sslcertmode"] = "require"
    if on_socket(used):
        methods.add("none")  # the kernel says who is there (peer), and no password goes anywhere
    wanted["require_auth"] = ",".join(sorted(methods))
    bound = used.get("sslmode") in ENCRYPTED and not on_socket(used) and methods == {SCRAM}
    wanted["channel_binding"] = "require" if bound and target.channel_binding == "require" else "prefer"
    if _key(used) in _unbound:
        wanted["channel_binding"] = "prefer"
    return wanted


def _key(used: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((key, used.get(key, "")) for key in ("host", "hostaddr", "port", "sslmode", "sslrootcert"))


def offers_no_binding(params: dict[str, Any], exc: psycopg.Error) -> bool:
    """Whether to try again without channel binding: the server does not offer it, and its certificate has proven who it is,
    so nobody in the middle can have left the offer out. Remembered as long as this process lives."""
    if _NO_BINDING not in str(exc) or params.get("channel_binding") != "require":
        return False
    used = effective({key: value for key, value in params.items() if key in _LIBPQ})
    if used.get("sslmode") != "verify-full":
        return False
    _unbound.add(_key(used))
    return True


_LIBPQ = ("service", "host", "hostaddr", "port", "sslmode", "sslrootcert")
