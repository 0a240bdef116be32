"""One walk through the stepper: what is known of the change so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexpilot_tui.engine.postgres.text import clean_line

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.change import Change
    from indexpilot_tui.engine.model.verdict import Verdict
    from indexpilot_tui.engine.whatif.model import Forecast


@dataclass(slots=True)
class Walk:
    """`origin` is what the walk began with (a statement, a finding, a reason); `ddl` what is proposed now; `forecast`
    belongs to `forecast_ddl`; `change` is set from the proposal on, and then it alone decides what may be done."""

    origin: str
    queryid: int | None = None
    ddl: str = ""
    candidates: tuple[str, ...] | None = None
    forecast: Forecast | None = None
    forecast_ddl: str = ""
    gates: tuple[Verdict, ...] | None = None
    change: Change | None = None

    @property
    def subject(self) -> str:
        """What the stepper line names: the change, or what will become one."""
        if self.change is not None:
            return f"change #{self.change.id} · plan {self.change.plan_sha256[:6]} · {self.index_name}"
        return clean_line(self.ddl, 60)

    @property
    def kind(self) -> str:
        """create, drop or reindex: of the change, or as the statement begins."""
        if self.change is not None:
            return self.change.kind
        first = self.ddl.split(maxsplit=1)[:1]
        return first[0].lower() if first else "create"

    @property
    def index_name(self) -> str:
        """The index of the change as it is shown and typed: schema-less, cleaned."""
        return clean_line(self.change.plan.index) if self.change else ""

    @property
    def rolling_back(self) -> bool:
        """A change that takes another one back."""
        return self.change is not None and self.change.parent_id is not None
