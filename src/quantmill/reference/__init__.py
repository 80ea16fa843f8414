"""What llama.cpp of a tag does: its ftypes, its choice of types, its options."""
