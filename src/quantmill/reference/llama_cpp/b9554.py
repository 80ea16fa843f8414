"""llama.cpp b9554 to b9756, June 2026: layers of multi-token prediction do not count among the feed-forward's.

The converter says what the normalizer does, and takes the token that a template begins with for BOS.
"""

from dataclasses import replace

from quantmill.reference.known_vocabularies import known_vocabularies
from quantmill.reference.llama_cpp.b9102 import B9102

B9554 = replace(
    B9102,
    first=9554,
    last=9756,
    generation=9554,
    nextn_layers_count=False,
    converter=replace(
        B9102.converter,
        tag="b9665",
        shown=(9665, 10361),
        vocabularies=known_vocabularies("b9665"),
        tokens=replace(
            B9102.converter.tokens,
            leading_is_bos=True,
            normalizer=("lowercase", "strip_accents"),
            is_prefix_first=True,
        ),
    ),
    tokenizers=(*B9102.tokenizers, "hybriddna", "whitespace"),
    pre_tokenizers=(
        *B9102.pre_tokenizers,
        *("granite-embed-multi-311m", "granite-embed-multi-97m", "mellum2"),
        *("minicpm5", "talkie", "whitespace"),
    ),
)
