"""What a release is to be: the recipe and its tables, and the lock that says what its base and texts are."""
