"""What every section of the settings is: frozen, and strict about its keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    # built with the first use: each section would else be compiled twice, for itself and inside Settings
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, defer_build=True)
