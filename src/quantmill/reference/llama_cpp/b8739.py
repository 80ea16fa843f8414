"""llama.cpp b8739 to b8943, April and May 2026: position and type embeddings stay as they are in every architecture."""

from dataclasses import replace

from quantmill.reference.llama_cpp.b8683 import B8683

B8739 = replace(
    B8683,
    first=8739,
    last=8943,
    generation=8739,
    kept_names={"*": frozenset({"position_embd.weight", "token_types.weight"})},
)
