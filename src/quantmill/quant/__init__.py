"""A base GGUF → a quantized one: types by tensor, the file before it exists, tensors through the kernels."""
