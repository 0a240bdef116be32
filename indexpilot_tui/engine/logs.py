"""Structured logs: JSON, one event a line, to a file or stderr. Never onto a screen that a console owns."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog

from indexpilot_tui.engine.postgres.text import clean_line
from indexpilot_tui.errors import ConfigError
from indexpilot_tui.settings.model import Settings

_LEVELS = {"DEBUG": logging.DEBUG, "INFO": logging.INFO, "WARNING": logging.WARNING, "ERROR": logging.ERROR}


def _cleaned(_logger: object, _name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Log files are read in terminals too."""
    return {key: clean_line(value) if isinstance(value, str) else value for key, value in event.items()}


def configure(settings: Settings, *, on_screen: bool) -> None:
    """Send log events where the settings say. `on_screen`: a console owns the terminal, so stderr is not an option and
    without a file nothing is written. Raises ConfigError when the file cannot be opened."""
    chosen = settings.operational.structured_logging
    stream: TextIO | None = None if on_screen else sys.stderr
    if chosen.file is not None:
        try:
            stream = chosen.file.open("a", encoding="utf-8", buffering=1)
        except OSError as exc:
            raise ConfigError(
                f"cannot be opened ({exc.strerror})",
                field="operational.structured_logging.file",
                value=str(chosen.file),
                remedy="name a file that this user may write",
            ) from None
    # logging.basicConfig of a library would write over the screen; a root handler of ours keeps it from doing so
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    factory: Any = structlog.PrintLoggerFactory(stream) if stream is not None else structlog.ReturnLoggerFactory()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _cleaned,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[chosen.log_level]),
        logger_factory=factory,
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()


def log(event: str, level: str = "info", **context: Any) -> None:
    """One event, with its context: target, change, operator and whatever belongs to it. Never a secret or a row value."""
    getattr(structlog.get_logger(), level)(event, **context)
