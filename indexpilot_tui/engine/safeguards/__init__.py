"""Gates before a change and guards during it; unknown blocks."""
