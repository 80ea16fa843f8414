"""Care of a store: what is in it, whether it is whole, and what may go."""
