"""What a bundle's fields say of each other may be anything: at this boundary it becomes one error."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import LocalServerError, UsageError

# what code that trusts the shape of a server's answer meets in one that has none; from a server each would be a defect
_MISFITS = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, ArithmeticError, RecursionError, struct.error,
    psycopg.Error,
)  # fmt: skip


@contextmanager
def fitting(*, from_file: bool) -> Iterator[None]:
    """Raises UsageError in the place of what a file that does not fit together has led to."""
    try:
        yield
    except _MISFITS as exc:
        if not from_file:
            raise
        raise UsageError(
            f"the parts of this bundle do not fit together ({type(exc).__name__}: {clean_line(str(exc), 120)})",
            field="bundle", remedy="capture again: indexpilot capture TARGET -o FILE",
        ) from exc  # fmt: skip
    except LocalServerError as exc:
        if not from_file or not isinstance(exc.__cause__, psycopg.Error):
            raise
        raise UsageError(
            f"the shadow cannot be made of this bundle: {exc.message}",
            field="bundle", remedy="capture again: indexpilot capture TARGET -o FILE",
        ) from exc  # fmt: skip
