"""The raw signals of a server, each with its limit: what the gates weigh, for a person to look at."""
