"""The console: a Textual application that talks to the engine's facade only."""
