"""Widgets of the console; live ones repaint only the lines that changed."""
