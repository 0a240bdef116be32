"""Reports as JSON: one object for one target, a list for several."""

from __future__ import annotations

import json

from indexpilot_tui.check.model import CheckReport


def report_json(reports: list[CheckReport]) -> str:
    """The documented shape, indented; control characters are escaped by JSON itself."""
    data = [report.to_json() for report in reports]
    return json.dumps(data[0] if len(data) == 1 else data, indent=2, ensure_ascii=True) + "\n"
