"""llama.cpp b10715 to b11067, v0.4.0, August and September 2026: a row that no block divides becomes F16 (27795).

A pattern that names the embedding per layer beats --token-embedding-type.
"""

from dataclasses import replace

from quantmill.gguf.types import TYPES
from quantmill.reference.llama_cpp.b10236 import B10236

B10715 = replace(
    B10236,
    first=10715,
    last=11067,
    generation=10715,
    names=("v0.4.0",),
    fallbacks=B10236.fallbacks | {name: name for name, type_ in TYPES.items() if type_.block == 32},
    is_embedding_named=True,
)
