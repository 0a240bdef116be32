"""The rules, in the order of the report: can we look, may we look, is the server well, are the indexes, are the changes."""

from indexpilot_tui.check.rules import changes, indexes, load, queries, rights, server

RULES = (*server.RULES, *rights.RULES, *indexes.RULES, *queries.RULES, *load.RULES, *changes.RULES)
