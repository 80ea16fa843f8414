"""llama.cpp b9014 to b9014, May 2026: a pattern counts though it names the ftype's own type (22572)."""

from dataclasses import replace

from quantmill.reference.llama_cpp.b8739 import B8739

B9014 = replace(
    B8739,
    first=9014,
    last=9014,
    generation=9014,
    patterns="before",
)
