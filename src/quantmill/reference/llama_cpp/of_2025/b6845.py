"""llama.cpp b6845, October 2025: position embeddings of vision models stay as they are."""

from dataclasses import replace

from quantmill.reference.llama_cpp.of_2025.b6673 import B6673

B6845 = replace(
    B6673,
    first=6845,
    last=6845,
    generation=6845,
    kept=(*B6673.kept, ".position_embd."),
    pre_tokenizers=(*B6673.pre_tokenizers, "bailingmoe2", "granite-docling"),
)
