"""The peers of kernels: ggml as a library."""
