"""A shared store whose owner, or whose server, is hostile."""
