"""The stepper: simulate, review, approve, build, verify, then keep or roll back."""
