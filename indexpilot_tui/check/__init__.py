"""Headless rules and their reporters."""
