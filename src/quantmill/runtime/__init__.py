"""Running a GGUF file on quantized kernels: load, evaluate tokens, generate, and measure how fast that is."""
