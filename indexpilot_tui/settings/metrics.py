"""Figures that SQL cannot see, and where they come from."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from indexpilot_tui.settings.strict import Strict

MetricName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]


def _refer(reference: str) -> str:
    name, dot, key = reference.partition(".")
    if not name or (dot and not key):
        raise ValueError("a metric is referred to as NAME, or NAME.KEY for a key of the object that it prints")
    return reference


MetricReference = Annotated[str, AfterValidator(_refer)]


class Metric(Strict):
    """One source of figures: a `command` (argv, no shell) or a `url` (GET) that answers with a number or with one JSON
    object of numbers. `{target}`, `{host}`, `{port}` and `{database}` in it are replaced by the target's."""

    command: tuple[str, ...] = ()
    url: str | None = None
    timeout_seconds: Annotated[float, Field(ge=0.1, le=5)] = 3.0  # below what a gate waits for
    max_age_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0  # how long an answer may be used again

    @model_validator(mode="after")
    def _one_source(self) -> Metric:
        if bool(self.command) == bool(self.url):
            raise ValueError("a metric has either a command or a url")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError("the url of a metric begins with http:// or https://")
        if self.url is not None and "@" in self.url.split("/")[2]:
            raise ValueError("the url of a metric holds no user and no password: use a command that knows them")
        return self
