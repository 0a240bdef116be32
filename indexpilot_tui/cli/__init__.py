"""The command line: console, --check and the verbs."""
