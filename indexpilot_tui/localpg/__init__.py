"""Private local PostgreSQL clusters, for the demo and the shadow planner."""

from indexpilot_tui.localpg import binaries
from indexpilot_tui.localpg.cluster import LocalCluster

__all__ = ["LocalCluster", "binaries"]
