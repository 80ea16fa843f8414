"""Architectures whose layers are of several kinds: attention, and recurrent parts or experts beside it."""
