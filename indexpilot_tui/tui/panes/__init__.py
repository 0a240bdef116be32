"""The panes of the first screen."""
