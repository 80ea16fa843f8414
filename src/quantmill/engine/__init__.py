"""The forward pass over kernels: architectures, weights from any file, layers streamed through all of a text."""
