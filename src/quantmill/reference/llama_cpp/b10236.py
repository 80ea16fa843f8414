"""llama.cpp b10236 to b10603, August 2026: indexers and audio codebooks stay as they are."""

from dataclasses import replace

from quantmill.reference.llama_cpp.b10068 import B10068

B10236 = replace(
    B10068,
    first=10236,
    last=10603,
    generation=10236,
    kept=(*B10068.kept, "indexer.k_proj.weight", "indexer.q_proj.weight", "a.rvq.codebook", "mm.a.code_embd"),
    pre_tokenizers=(*B10068.pre_tokenizers, "laguna"),
)
