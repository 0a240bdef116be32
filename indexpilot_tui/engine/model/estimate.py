"""What a change will take: bytes on the disk and seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BuildEstimate:
    """An estimate to be on the safe side with: sizes are upper bounds, `seconds` is the slow end of the range (nine builds
    in ten are done by then); None: unknown. `tablespace` is where the index goes, `basis` what the figures rest on."""

    index_bytes: int
    temp_bytes: int
    wal_bytes: int
    seconds: float | None
    tablespace: str
    basis: str
