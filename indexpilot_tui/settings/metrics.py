"""Figures that SQL cannot see, and where they come from."""

from __future__ import annotations

import re
from typing import Annotated

from annotated_types import Interval

from indexpilot_tui.settings.section import Check, section


def _name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError("a metric's name is made of letters, digits, _ and -")
    return name


MetricName = Annotated[str, Check(_name)]


def _refer(reference: str) -> str:
    name, dot, key = reference.partition(".")
    if not name or (dot and not key):
        raise ValueError("a metric is referred to as NAME, or NAME.KEY for a key of the object that it prints")
    return reference


MetricReference = Annotated[str, Check(_refer)]


@section
class Metric:
    """One source of figures: a `command` (argv, no shell) or a `url` (GET) that answers with a number or with one JSON
    object of numbers. `{target}`, `{host}`, `{port}` and `{database}` in it are replaced by the target's."""

    command: tuple[str, ...] = ()
    url: str | None = None
    timeout_seconds: Annotated[float, Interval(ge=0.1, le=5)] = 3.0  # below what a gate waits for
    max_age_seconds: Annotated[float, Interval(ge=0, le=60)] = 5.0  # how long an answer may be used again

    def __post_init__(self) -> None:
        if bool(self.command) == bool(self.url):
            raise ValueError("a metric has either a command or a url")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError("the url of a metric begins with http:// or https://")
        if self.url is not None and "@" in self.url.split("/")[2]:
            raise ValueError("the url of a metric holds no user and no password: use a command that knows them")
