"""Model architectures: tensors and their names in a checkpoint and in a GGUF file, hyperparameters, metadata keys."""
