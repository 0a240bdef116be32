"""The shared engine: every safeguard, every change, every forecast goes through here."""
