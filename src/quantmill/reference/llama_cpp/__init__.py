"""llama.cpp's spans of tags, one file each: the first build that is proven, and what differs from the span before."""
