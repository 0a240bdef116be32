"""The control schema, the mutation log and its hash chain."""
