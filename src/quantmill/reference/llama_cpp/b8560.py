"""llama.cpp b8560 to b8660, March and April 2026: more of a vision model's matrices stay as they are."""

from dataclasses import replace

from quantmill.reference.llama_cpp.b8356 import B8356

B8560 = replace(
    B8356,
    first=8560,
    last=8660,
    generation=8560,
    kept=(
        *B8356.kept,
        ".position_embd",
        "sam.pos_embd",
        "sam.neck.",
        "sam.net_",
        ".rel_pos",
        ".patch_embd",
        ".patch_merger",
    ),
    pre_tokenizers=(*B8356.pre_tokenizers, "f2llmv2"),
)
