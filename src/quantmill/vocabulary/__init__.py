"""Tokenizers and vocabularies, of a Hugging Face folder or of a GGUF file."""
