"""Structured logs: JSON, one event a line, to a file or stderr. Never onto a screen that a console owns.

structlog is imported with the first event that is really written: it would cost a console a fifth of its start-up.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, TextIO

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import ConfigError
from indexpilot_tui.settings.model import Settings

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class _Sink:
    """Where events go: nowhere until `configure` was called."""

    stream: TextIO | None = None
    opened: TextIO | None = None  # ours to close
    level: int = logging.WARNING
    logger: Any = None
    trouble: str = ""
    on_screen: bool = False


def configure(settings: Settings, *, on_screen: bool) -> None:
    """Send log events where the settings say. `on_screen`: a console owns the terminal, so stderr is not an option and
    without a file nothing is written. Raises ConfigError when the file cannot be opened."""
    chosen = settings.operational.structured_logging
    _close()
    _Sink.stream, _Sink.logger, _Sink.trouble = None if on_screen else sys.stderr, None, ""
    _Sink.on_screen = on_screen
    _Sink.level = _LEVELS[chosen.log_level.lower()]
    if chosen.file is not None:
        try:
            _Sink.stream = _Sink.opened = chosen.file.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
        except OSError as exc:
            raise ConfigError(
                f"cannot be opened ({exc.strerror})",
                field="operational.structured_logging.file",
                value=str(chosen.file),
                remedy="name a file that this user may write",
            ) from None
    # a library's logging.basicConfig would write over the screen; with a root handler in place it does nothing
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)


def _close() -> None:
    """Let go of our file, if there is one; what a full disk did not take is lost."""
    if _Sink.opened is not None:
        with contextlib.suppress(OSError):
            _Sink.opened.close()
        _Sink.opened = None


def _cleaned(_logger: object, _name: str, event: Any) -> Any:
    """Log files are read in terminals too."""
    return {key: clean_line(value) if isinstance(value, str) else value for key, value in event.items()}


def _logger(stream: TextIO) -> Any:
    import structlog

    return structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _cleaned,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_Sink.level),
    )


def log(event: str, level: str = "info", **context: Any) -> None:
    """One event with its context: target, change, operator and whatever belongs to it. Never a secret or a row value.

    A log that cannot be written (a full disk, nobody at stderr's other end) stops no work: `trouble` says so, and no more is
    written. What was done to a server stands in the journal."""
    if _Sink.stream is None or _LEVELS[level] < _Sink.level:
        return
    if _Sink.logger is None:
        _Sink.logger = _logger(_Sink.stream)
    try:
        getattr(_Sink.logger, level)(event, **context)
    except (OSError, ValueError) as exc:  # ValueError: a stream that was closed
        _Sink.stream = _Sink.logger = None
        _Sink.trouble = (
            f"the log cannot be written any more ({getattr(exc, 'strerror', None) or exc}); the work goes on without"
        )
        ours = _Sink.opened is not None
        _close()
        if ours and not _Sink.on_screen and sys.stderr is not None:
            with contextlib.suppress(OSError, ValueError):  # nobody is there to be told, either
                sys.stderr.write(f"indexpilot: {_Sink.trouble}\n")


def trouble() -> str:
    """Why nothing is written any more, if that is so; for the operator."""
    return _Sink.trouble
