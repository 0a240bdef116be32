"""Configuration file, environment and flags become one frozen Settings."""

from indexpilot_tui.settings.model import Settings, Target

__all__ = ["Settings", "Target"]
