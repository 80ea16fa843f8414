"""llama.cpp b6122 to b6133, August 2025: numbers that are set have no sign, and per-layer embeddings are embeddings.

Of several patterns the last counts, and none where a tensor had to fall back. llama-imatrix writes GGUF, and keeps
tensors of which some experts were not reached. Pull requests 14182 (numbers), 14400 (gemma3n), 14620 (LFM2), 14572 and
14995 (patterns), 9400 (imatrix), 15091 (the ftype MXFP4_MOE). The converter reads the post-processor; its facts are
those of two snapshots of August 2025, on either side of these tags, which agree.
"""

from dataclasses import replace

from quantmill.gguf.types import ValueType
from quantmill.reference.ftypes import FTYPES
from quantmill.reference.known_vocabularies import known_vocabularies
from quantmill.reference.llama_cpp.of_2025.b5590 import B5590
from quantmill.reference.tensor_order import name_order

_TIED = "gemma3n neo-bert lfm2 lfm2moe jina-bert-v3 modern-bert eurobert"  # those that came until b8179

B6122 = replace(
    B5590,
    first=6122,
    last=6133,
    generation=6122,
    kept=(*B5590.kept, "shortconv.conv.weight", "altup", "laurel", "per_layer_model_proj"),
    ftypes=B5590.ftypes | {"MXFP4_MOE": FTYPES["MXFP4_MOE"]},
    mix=B5590.mix | {("*", "MXFP4_MOE"): "stacked=MXFP4 Q8_0", ("output", "MXFP4_MOE"): "Q8_0"},
    embeddings=(*B5590.embeddings, "per_layer_token_embd.weight"),
    kept_names=B5590.kept_names | {"jina-bert-v3": frozenset({"token_types.weight"})},
    tied_architectures=B5590.tied_architectures | set(_TIED.split()),
    patterns="last unless fallen back",
    header=replace(
        B5590.header,
        imatrix_keys=B5590.header.imatrix_keys
        | {
            "quantize.imatrix.entries_count": (ValueType.UINT32, "entries"),
            "quantize.imatrix.chunks_count": (ValueType.UINT32, "chunks"),
        },
        whole_number=ValueType.UINT32,
    ),
    imatrix=replace(
        B5590.imatrix,
        form="gguf",
        order=name_order,
        whole_only=False,
        calls="chunks",
        parses_special=True,
    ),
    converter=replace(
        B5590.converter,
        tag="b6133",
        shown=(6122, 6133),
        vocabularies=known_vocabularies("b6133"),
        tokens=replace(
            B5590.converter.tokens,
            is_processed=True,
            is_bos_replaced=True,
            has_text_ids=True,
            takes_surplus=True,
            is_jinja_first=False,
        ),
    ),
    tokenizers=(*B5590.tokenizers, "plamo2"),
    pre_tokenizers=(
        *B5590.pre_tokenizers,
        *("a.x-4.0", "exaone4", "falcon-h1", "hunyuan", "hunyuan-dense"),
        *("kimi-k2", "lfm2", "mellum", "midm-2.0"),
    ),
)
