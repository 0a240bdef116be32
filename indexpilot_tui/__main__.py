"""Entry point of the `indexpilot` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the process ends with its exit status."""
    from indexpilot_tui.cli.main import run
    from indexpilot_tui.engine.dumps import forbid_core_dumps

    forbid_core_dumps()
    sys.exit(run())


if __name__ == "__main__":
    main()
