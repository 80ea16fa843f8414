"""A model in Hugging Face layout → one GGUF file."""
