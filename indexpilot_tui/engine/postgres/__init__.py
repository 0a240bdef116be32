"""Sessions, TLS policy, server facts, SQL files, DDL parsing, and the cleaning of server text."""
