"""Files that anybody made: what they are, and whether they are what quantizing their base gives."""
