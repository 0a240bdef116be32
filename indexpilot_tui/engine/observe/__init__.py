"""Hotspots, index health, activity and throttle signals: reads only."""
