"""quantmill: a declarative build system for GGUF quantization releases."""

__version__ = "0.1.0"
