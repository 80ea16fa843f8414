"""The spans of 2025, from b5590 on."""
