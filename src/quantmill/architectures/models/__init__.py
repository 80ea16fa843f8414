"""A file for each architecture, named after it: what a checkpoint and a GGUF file of it hold, what a layer is."""
