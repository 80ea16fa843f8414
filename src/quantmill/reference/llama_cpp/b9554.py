"""llama.cpp b9554 to b9756, June 2026: layers of multi-token prediction do not count among the feed-forward's."""

from dataclasses import replace

from quantmill.reference.llama_cpp.b9102 import B9102

B9554 = replace(
    B9102,
    first=9554,
    last=9756,
    generation=9554,
    nextn_layers_count=False,
)
