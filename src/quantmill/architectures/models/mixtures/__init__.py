"""Architectures whose feed-forward part is a mixture of experts."""
