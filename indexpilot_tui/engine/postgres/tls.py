"""The TLS policy, checked on the client's side after connecting: what the server says of itself proves nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from indexpilot_tui.errors import ConnectError
from indexpilot_tui.settings.model import Target


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """`sslmode` is the mode in force for this connection, wherever it came from. `version` and `cipher` are what the
    server says of them: for display, no decision rests on them."""

    in_use: bool
    unix_socket: bool
    sslmode: str
    version: str = ""
    cipher: str = ""

    @property
    def authenticated(self) -> bool:
        """Encrypted, and the server proved that it is the one that was asked for (`require` does not: measured)."""
        return self.in_use and self.sslmode == "verify-full"


def tls_facts(conn: AsyncConnection[Any]) -> TlsFacts:
    """What the client's side knows of the connection (protocol and cipher follow from the server's view, for display)."""
    host = conn.info.host or ""
    parameters = {opt.keyword.decode(): (opt.val or b"").decode() for opt in conn.pgconn.info}
    mode = parameters.get("sslmode") or "prefer"
    if parameters.get("sslrootcert") == "system" and mode == "prefer":
        mode = "verify-full"  # libpq: sslrootcert=system implies it
    return TlsFacts(in_use=bool(conn.pgconn.ssl_in_use), unix_socket=host == "" or host.startswith(("/", "@")), sslmode=mode)


def enforce(target: Target, tls: TlsFacts) -> None:
    """Refuse a production session that is not encrypted. A unix socket does not leave the machine."""
    if target.production and not tls.in_use and not tls.unix_socket:
        raise ConnectError(
            "the session is not encrypted, and this target is a production one",
            field="sslmode",
            value=tls.sslmode,
            remedy="set sslmode=verify-full and sslrootcert=FILE; the server needs ssl=on",
        )
