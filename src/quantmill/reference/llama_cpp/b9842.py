"""llama.cpp b9842 to b9879, June 2026: they count again."""

from dataclasses import replace

from quantmill.reference.llama_cpp.b9554 import B9554

B9842 = replace(
    B9554,
    first=9842,
    last=9879,
    generation=9842,
    nextn_layers_count=True,
    pre_tokenizers=(*B9554.pre_tokenizers, "cohere2moe"),
)
