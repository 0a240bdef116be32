"""The console: screens, panes and widgets over the engine facade."""
