"""Index health: what the indexes are worth, which are superfluous, what they cost; from the catalog and the statistics."""
