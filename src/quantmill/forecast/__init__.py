"""A release before any work: exact sizes, what would run, what it takes."""
