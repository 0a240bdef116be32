"""The parameters of one connection, and the login itself: by which methods, see `auth`."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from indexpilot_tui.engine.postgres import auth
from indexpilot_tui.engine.postgres.conninfo import password_of, resolve
from indexpilot_tui.settings.model import Target

TCP_USER_TIMEOUT_MS = 10_000  # data sent and not acknowledged for so long: the peer is gone


async def parameters(target: Target, application_name: str | None = None) -> dict[str, Any]:
    """Everything that psycopg needs to connect, the password included: never log or keep it."""
    params = resolve(target)
    used = auth.effective(params)
    auth.check(target, used)
    params |= auth.demands(target, used)
    password = await password_of(target)
    if password is not None:
        params["password"] = password
    params["application_name"] = application_name or "indexpilot"
    params |= {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "client_encoding": "UTF8"}
    params["tcp_user_timeout"] = TCP_USER_TIMEOUT_MS
    # no server-side prepared statements: a generic plan of ours would age, and a pooler could not hold them
    return params | {"autocommit": True, "prepare_threshold": None}


async def log_in(params: dict[str, Any]) -> AsyncConnection[TupleRow]:
    """Raises psycopg.Error."""
    try:
        return await AsyncConnection.connect(**params)
    except psycopg.OperationalError as exc:
        if not auth.offers_no_binding(params, exc):
            raise
    return await AsyncConnection.connect(**params | {"channel_binding": "prefer"})
