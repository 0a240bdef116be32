"""What the catalog says, long after the deed, of what a change left behind."""

from __future__ import annotations

from dataclasses import dataclass

AS_PLANNED = frozenset({"valid", "gone"})


@dataclass(frozen=True, slots=True)
class Standing:
    """`code`: valid | gone (as planned); dropped | replaced | invalid | partial | made_again | elsewhere (against the plan);
    unread (the catalog could not be asked). `sentence` is cleaned. `index_oid`: of the index that stands there, if any."""

    code: str
    sentence: str
    index_oid: int | None = None

    @property
    def as_planned(self) -> bool:
        return self.code in AS_PLANNED

    def to_json(self) -> dict[str, object]:
        return {"code": self.code, "as_planned": self.as_planned, "sentence": self.sentence, "index_oid": self.index_oid}
