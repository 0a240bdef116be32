"""The shadow planner: forecasts from the statistics of the target, nothing installed on it."""
