"""Which file of a release a machine should run."""
