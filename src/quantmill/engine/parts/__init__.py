"""The parts of a layer: a function for each operation with matrices, of architectures/operations.py."""
