"""Figures that SQL cannot see (free disk, CPU ...), from commands and HTTP hooks: one reader for whoever looks."""
