"""The commands that read or write model files, whatever project they lie in."""
