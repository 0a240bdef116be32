"""Full, opaque screens."""
