"""Private local PostgreSQL 18 clusters, for the demo and the shadow planner."""
