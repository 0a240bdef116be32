"""An embedded server with a sample shop, real troubles and a live workload."""
