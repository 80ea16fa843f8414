"""llama.cpp b8121 to b8192, February and March 2026: IQ3_XXS needs an importance vector."""

from dataclasses import replace

from quantmill.reference.llama_cpp.b8054 import B8054

B8121 = replace(
    B8054,
    first=8121,
    last=8192,
    generation=8121,
    needs_importance=B8054.needs_importance | {("IQ3_XXS", "*"): frozenset()},
    pre_tokenizers=(*B8054.pre_tokenizers, "jais-2", "joyai-llm", "tiny_aya"),
)
