"""A whole llama.cpp of a tag at work: its converter and its tools, for what our own code does not know.

`quantmill toolchain TAG` makes one usable (`provision`); `find` and `needed` of `installed` give it. What its programs
do is not promised bit for bit, so that every step they run in has their digests in its key.
"""
