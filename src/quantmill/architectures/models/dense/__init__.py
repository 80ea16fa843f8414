"""Architectures whose feed-forward part is one for all tokens, or may be."""
