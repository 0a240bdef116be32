"""The forecasting part of the facade: one shadow for a console, started when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from indexpilot_tui.engine.control import Control
from indexpilot_tui.engine.postgres.session import Session

if TYPE_CHECKING:
    from indexpilot_tui.engine.whatif.advise.advisor import Options
    from indexpilot_tui.engine.whatif.advise.model import Advice
    from indexpilot_tui.engine.whatif.model import Forecast, Statement
    from indexpilot_tui.engine.whatif.simulate import Simulator

WORKLOAD_STATEMENTS = 500  # the busiest of pg_stat_statements that a forecast looks at


class Forecasting:
    """`monitor` gives a session that reads; `control` knows what builds took here."""

    def __init__(self, monitor: Callable[[], AbstractAsyncContextManager[Session]], control: Control) -> None:
        self._monitor, self._control = monitor, control
        self._simulator: Simulator | None = None

    async def shadow(self) -> Simulator:
        """The planner of this console."""
        if self._simulator is None:
            from indexpilot_tui.engine.whatif.simulate import Simulator

            self._simulator = Simulator()
        return self._simulator

    async def close(self) -> None:
        """End the shadow, where there is one."""
        simulator, self._simulator = self._simulator, None
        if simulator is not None:
            await simulator.close()

    async def simulate(
        self, ddl: str, statements: Sequence[Statement] | None, *, backend: str, cross_check: bool
    ) -> Forecast:
        """As `Engine.simulate`."""
        simulator = await self.shadow()
        async with self._monitor() as session:
            if statements is None:
                from indexpilot_tui.engine.whatif.workload import from_pg_stat_statements

                statements = await from_pg_stat_statements(session, WORKLOAD_STATEMENTS)
            builds = await self._control.builds(session)
            return await simulator.simulate(
                session, ddl, statements, backend=backend, cross_check=cross_check, builds=builds
            )  # fmt: skip

    async def advise(self, statements: Sequence[Statement] | None, options: Options | None) -> Advice:
        """As `Engine.advise`."""
        from indexpilot_tui.engine.whatif.advise.advisor import Options, advise, read_case

        simulator = await self.shadow()
        async with self._monitor() as session:
            case = await read_case(session, statements)
        return await advise(simulator.server, case, options or Options())

    async def candidates(self, query: str) -> list[str]:
        """Index statements worth forecasting for one statement; may be empty."""
        from indexpilot_tui.engine.whatif.candidates import candidates

        async with self._monitor() as session:
            return await candidates(session, query)
