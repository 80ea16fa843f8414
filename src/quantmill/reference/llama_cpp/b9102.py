"""llama.cpp b9102 to b9309, May 2026: Jais 2 of 68 layers is large, Qwen2-VL of 80 is not."""

from dataclasses import replace

from quantmill.reference.llama_cpp.b9014 import B9014

B9102 = replace(
    B9014,
    first=9102,
    last=9309,
    generation=9102,
    large={arch: layers for arch, layers in B9014.large.items() if arch != "qwen2vl"} | {"jais2": 68},
    pre_tokenizers=(*B9014.pre_tokenizers, "sarvam-moe"),
)
