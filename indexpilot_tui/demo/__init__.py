"""An embedded server with a sample shop, real troubles and a live workload."""

from indexpilot_tui.demo.demo import Demo
from indexpilot_tui.demo.scenarios import SCENARIOS, Scenario

__all__ = ["SCENARIOS", "Demo", "Scenario"]
