"""One finding or one gate, in full."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar

from textual.binding import BindingType

from indexpilot_tui.tui import format as fmt
from indexpilot_tui.tui.actions import BACK, Action, bindings
from indexpilot_tui.tui.faults import Fault
from indexpilot_tui.tui.gates import STATUS_TONES
from indexpilot_tui.tui.lines import Line, line, rule, wrap
from indexpilot_tui.tui.panes.health import WORDS
from indexpilot_tui.tui.screens.text import TextScreen

if TYPE_CHECKING:
    from indexpilot_tui.engine.model.verdict import Verdict
    from indexpilot_tui.engine.observe.model import HealthFinding, IndexDetail, IndexRow, Observation


class FindingScreen(TextScreen):
    """Evidence, risk and the statement that would fix it."""

    HELP_TITLE = "Finding"
    ACTIONS: ClassVar[tuple[Action, ...]] = (
        Action("i", "simulate", "simulate the fix", "Forecast what the fix would do, then review it.", 0),
        Action("p", "count", "count bloat", "Count the air in this B-tree with pgstattuple: it reads all of the index.", 2),
        BACK,
    )
    BINDINGS: ClassVar[list[BindingType]] = bindings(ACTIONS)

    def __init__(self, finding: HealthFinding, index: IndexRow | None, stats_since: datetime | None) -> None:
        super().__init__()
        self._finding, self._index, self._since = finding, index, stats_since
        self._detail: IndexDetail | None = None
        self._fault = ""

    def on_mount(self) -> None:
        super().on_mount()
        if self._index is not None:
            self._ask(count=False)

    def _ask(self, *, count: bool) -> None:
        oid = self._finding.oid
        self.work_on(
            lambda: self.engine.index_detail(oid, count=count), self._known, what="reading the index", failed=self._failed
        )

    def _known(self, detail: IndexDetail) -> None:
        self._detail, self._fault = detail, ""

    def _failed(self, fault: Fault) -> None:
        self._fault = fault.one_line

    def heading(self) -> str:
        return f"{WORDS.get(self._finding.kind.value, self._finding.kind.value)} · {self._finding.index}"

    def text(self, width: int) -> Sequence[Line]:
        item, out = self._finding, []
        since = fmt.clock(self._since, with_date=True) if self._since else "an unknown time"
        out.append(line(("table    ", "dim"), item.table))
        out.append(line(("size     ", "dim"), fmt.size(item.size_bytes)))
        out.append(line(("scans    ", "dim"), fmt.count(item.scans), (f"  since {since}", "dim")))
        if item.saves_bytes is not None or item.saves_writes_per_s is not None:
            writes = (
                "" if item.saves_writes_per_s is None else f" and {fmt.rate(item.saves_writes_per_s)} index entries a second"
            )
            out.append(line(("saves    ", "dim"), fmt.size(item.saves_bytes), writes))
        if self._index is not None:
            out.append(line(("access   ", "dim"), self._index.method))
            valid = "valid" if self._index.valid else "INVALID"
            ready = "ready for writes" if self._index.ready else "not ready for writes"
            out.append(line(("catalog  ", "dim"), f"{valid}, {ready}, oid {self._index.oid}"))
            if self._index.constraint:
                out.append(line(("belongs to constraint ", "dim"), self._index.constraint))
            if self._detail is not None:
                out.append(line(("bloat    ", "dim"), self._detail.bloat))
            known = self._detail.definition if self._detail else "reading …"
            out += [rule("definition", width), *wrap(self._fault or known, width, "crit" if self._fault else "plain")]
        out += [(), rule("evidence", width), *wrap(item.evidence, width)]
        out += [(), rule("risk", width), *wrap(item.risk, width)]
        fix = item.fix or "none that is safe to name in one statement"
        out += [(), rule("fix", width), *wrap(fix, width, "bold" if item.fix else "dim")]
        return out

    def why_not(self, action: Action) -> str:
        if action.name == "simulate" and not self._finding.fix:
            return "this finding has no single statement that would fix it"
        if action.name == "count":
            if self._index is None:
                return "there is no index yet"
            return "" if self._index.method == "btree" else "pgstattuple counts the leaves of B-trees only"
        return super().why_not(action)

    def action_count(self) -> None:
        """Let pgstattuple count."""
        size = self._index.size_bytes if self._index else None
        self.say(f"counting: the server reads {fmt.size(size)}")
        self._ask(count=True)

    def action_simulate(self) -> None:
        """Into the stepper with the fix."""
        self.console.walk_ddl(self._finding.fix, f"{self._finding.kind.value} {self._finding.index}")


class GateScreen(TextScreen):
    """What was measured, against which limit, and which setting holds it."""

    HELP_TITLE = "Gate"

    def __init__(self, verdict: Verdict) -> None:
        super().__init__()
        self._guard, self._verdict = verdict.guard, verdict

    def heading(self) -> str:
        return f"gate {self._guard.replace('_', ' ')}"

    def text(self, width: int) -> Sequence[Line]:
        verdict = next((v for v in self.snapshot.throttle or () if v.guard == self._guard), self._verdict)
        meaning = {
            "pass": "a change may go through this gate now",
            "wait": "not now; it opens by itself",
            "block": "it stays shut until somebody does something",
            "unknown": "it could not be read, so it is shut",
        }[verdict.status.value]
        since = fmt.clock(verdict.since, with_date=True) if verdict.since else "this reading"
        out = [
            line((verdict.status.value.upper(), STATUS_TONES[verdict.status.value]), f"  {meaning}"),
            line(("measured ", "dim"), verdict.measured or fmt.NOT_MEASURED),
            line(("limit    ", "dim"), verdict.limit or "none"),
            line(("setting  ", "dim"), verdict.setting or "none: it cannot be changed"),
            line(("since    ", "dim"), since),
        ]
        if verdict.retry_at:
            out.append(line(("opens    ", "dim"), fmt.clock(verdict.retry_at, with_date=True)))
        return [*out, (), rule("evidence", width), *wrap(verdict.evidence, width)]


def finding_screen(finding: HealthFinding, seen: Observation | None) -> FindingScreen:
    """The screen of a finding, with the index that it is about where there is one."""
    health = seen.health if seen else None
    index = next((i for i in health.indexes if i.oid == finding.oid), None) if health else None
    return FindingScreen(finding, index, health.stats_since if health else None)


def gate_screen(verdict: Verdict) -> GateScreen:
    """The screen of a gate; it follows the gate while it is open."""
    return GateScreen(verdict)
