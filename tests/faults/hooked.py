"""An executor process that stops, or dies, at one exact write to the journal, or whose clock is wrong.

Run as `python -m tests.faults.hooked` in place of the executor's own module, with the hook as JSON in the environment. All
else is the executor's own code: the hook only waits or kills, in between two writes.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.warm import python

ENVIRONMENT = "IXP_TEST_HOOK"
# Writes that have no action of their own in the call
NAMED = {
    "claim": "claimed", "takeover": "takeover", "record_gates": "gates", "set_backend": "backend", "set_index": "index",
    "save_stats": "stats", "save_verification": "verification",
}  # fmt: skip


@dataclass(frozen=True)
class Hook:
    """`do`: pause (until the file `flag`.go appears; `flag`.here says that it stands) or kill. `at`: the action of the log
    row; `when`: before or after it was written; `nth`: of this action, from 1; 0 for `at` empty: every write counts.
    `send`: pause before the DDL goes out. `clock_s`: how wrong this process's clock is."""

    do: str = "pause"
    at: str = ""
    when: str = "after"
    nth: int = 1
    flag: str = ""
    send: bool = False
    clock_s: float = 0.0

    def environment(self) -> dict[str, str]:
        return {ENVIRONMENT: json.dumps(asdict(self))}

    @property
    def here(self) -> bool:
        return Path(f"{self.flag}.here").exists()

    def release(self) -> None:
        Path(f"{self.flag}.go").touch()

    async def stand(self) -> None:
        if self.do == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        Path(f"{self.flag}.here").write_text(str(os.getpid()))
        while not Path(f"{self.flag}.go").exists():
            await asyncio.sleep(0.03)


def install(hook: Hook) -> None:
    """Put the hook in this process."""
    from indexpilot_tui.engine.changes.executor import Door
    from indexpilot_tui.engine.journal.journal import Journal

    seen = 0

    def wrapped(call: Callable[..., Awaitable[Any]], action_of: Callable[[tuple[Any, ...]], str]) -> Callable[..., Any]:
        async def hooked(*args: Any, **named: Any) -> Any:
            nonlocal seen
            mine = not hook.at or action_of(args) == hook.at
            seen += mine
            if mine and seen == hook.nth and hook.when == "before":
                await hook.stand()
            result = await call(*args, **named)
            if mine and seen == hook.nth and hook.when == "after":
                await hook.stand()
            return result

        return hooked

    def named_action(name: str) -> Callable[[tuple[Any, ...]], str]:
        return lambda _args: name

    if hook.at or hook.do == "kill":
        for method, action in NAMED.items():
            setattr(Journal, method, wrapped(getattr(Journal, method), named_action(action)))
        Journal.advance = wrapped(Journal.advance, lambda args: str(args[5]))  # type: ignore[method-assign]
        Journal.append = wrapped(Journal.append, lambda args: str(args[3]))  # type: ignore[method-assign]
    if hook.send:
        send = Door._send

        async def held(self: Any, statement: Any) -> None:
            await hook.stand()
            await send(self, statement)

        Door._send = held  # type: ignore[method-assign]
    if hook.clock_s:
        real = time.time
        time.time = lambda: real() + hook.clock_s


async def spawn(job_json: str, hook: Hook) -> int:
    """Start a hooked executor, as `executor.spawn` starts a plain one."""
    process = await asyncio.create_subprocess_exec(
        python(), "-m", "tests.faults.hooked",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2], start_new_session=True, env=os.environ | hook.environment(),
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(job_json.encode()), 60)
    answer = json.loads(out) if out else {}
    assert "pid" in answer, (answer, err.decode()[-500:])
    return int(answer["pid"])


def main() -> int:
    from indexpilot_tui.engine.changes import executor

    install(Hook(**json.loads(os.environ[ENVIRONMENT])))
    return executor.main()


if __name__ == "__main__":
    sys.exit(main())
