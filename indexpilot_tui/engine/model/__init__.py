"""What several rooms of the engine exchange: the verdict of a safeguard, the change and its plan. Data only."""
