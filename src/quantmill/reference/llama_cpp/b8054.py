"""llama.cpp b8054 to b8095, February 2026: whatever names ssm_conv1d stays as it is."""

from dataclasses import replace

from quantmill.reference.llama_cpp.b7830 import B7830

B8054 = replace(
    B7830,
    first=8054,
    last=8095,
    generation=8054,
    kept=(*(part for part in B7830.kept if part != "ssm_conv1d.weight"), "ssm_conv1d"),
    pre_tokenizers=(*B7830.pre_tokenizers, "qwen35"),
)
