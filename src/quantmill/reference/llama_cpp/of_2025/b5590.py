"""llama.cpp b5590 to b5640, June 2025: of several patterns the first that changes the type counts."""

from dataclasses import replace

from quantmill.reference.llama_cpp.b4867 import B4867

B5590 = replace(
    B4867,
    first=5590,
    last=5640,
    generation=5590,
    patterns="changing",
    pre_tokenizers=(*B4867.pre_tokenizers, "seed-coder"),
)
