"""llama.cpp b4867 to b5490, March to May 2025: all that its tags decide.

ggml-quants.c did not change its arithmetic from 2025-03-04 to 2025-06-24. The mix, the order of tensors and the
metadata are those of one source inside the span, early May 2025 (llama-cpp-python 0.3.9's), against which whole files
are compared. That they are the same at both ends of the span was not checked against the sources of those tags.
Sources: llama-quant.cpp, quantize.cpp, gguf.cpp, imatrix.cpp, llama-vocab.cpp and convert_hf_to_gguf.py.
"""

from quantmill.gguf.types import ValueType
from quantmill.reference.arithmetic import QuantArithmetic
from quantmill.reference.converter import Converter, TokenRules
from quantmill.reference.ftypes import FTYPES, LATER
from quantmill.reference.hash_order import hash_order
from quantmill.reference.reference import Header, ImatrixRules, Reference
from quantmill.reference.tensor_order import layer_order

# A row is `role ftypes: rule` (reference/mix_rules.py says how a rule reads).
_MIX = """
output IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS: falcon=Q8_0 !whole=Q8_0 Q5_K
output Q8_0: Q8_0
output *: falcon=Q8_0 !whole=Q8_0 Q6_K

token_embd IQ1_S IQ1_M IQ2_XXS IQ2_XS: Q2_K
token_embd IQ2_S IQ2_M IQ3_XXS: IQ3_S
token_embd TQ1_0 TQ2_0: Q4_K

attn_v IQ1_S IQ1_M IQ2_XXS IQ2_XS: gqa4+=Q4_K experts4+=Q4_K Q2_K
attn_v IQ2_S IQ2_M: gqa4+=Q4_K experts4+=Q4_K IQ3_S
attn_v Q2_K: gqa4+=Q4_K Q3_K
attn_v Q2_K_S IQ3_XS IQ3_S: gqa4+=Q4_K
attn_v IQ3_XXS: gqa4+=Q4_K !imatrix=IQ3_S IQ3_XXS
attn_v IQ3_M: Q4_K
attn_v Q3_K_M: first2=Q5_K Q4_K
attn_v Q3_K_L: Q5_K
attn_v IQ4_NL IQ4_XS: gqa4+=Q5_K
attn_v Q4_K_S: first4=Q5_K
attn_v Q4_K_M Q5_K_M: more=Q6_K

attn_k IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M: experts8=Q4_K
attn_k IQ3_XS: experts8=Q8_0 IQ3_XXS
attn_k IQ3_XXS: experts8=Q8_0 IQ2_S
attn_k *: experts8=Q8_0

attn_q IQ3_XS: IQ3_XXS
attn_q IQ3_XXS: IQ2_S

ffn_down IQ1_S IQ1_M IQ2_XXS IQ2_XS: eighth=Q2_K
ffn_down IQ2_S IQ2_M: eighth=IQ3_S
ffn_down Q2_K: Q3_K
ffn_down Q2_K_S: eighth=Q4_K
ffn_down IQ3_XXS: !imatrix&eighth=Q4_K !imatrix=Q3_K
ffn_down Q3_K_M: sixteenth=Q5_K !falcon=Q4_K more=Q4_K
ffn_down IQ3_M: eighth=Q4_K experts8&more=Q4_K
ffn_down Q3_K_L: falcon=Q4_K Q5_K
ffn_down Q4_K_M: falcon&sixteenth=Q6_K falcon&more=Q5_K !falcon&more=Q6_K
ffn_down IQ4_NL IQ4_XS: !imatrix&eighth=Q5_K
ffn_down Q5_K_M: more=Q6_K
ffn_down Q4_K_S: !falcon&eighth=Q5_K
ffn_down Q4_0: imatrix&eighth=Q4_1
ffn_down Q5_0: imatrix&eighth=Q5_1

attn_output IQ1_S IQ1_M: experts8=Q5_K IQ2_XXS
attn_output IQ2_XXS IQ2_XS: experts8=Q5_K
attn_output IQ2_S IQ2_M: experts8=Q5_K IQ3_S
attn_output Q2_K: !falcon&experts8=Q5_K !falcon=Q3_K
attn_output IQ3_XXS: !falcon&experts8=Q5_K !falcon=IQ3_S
attn_output Q3_K_M IQ3_M: !falcon&experts8=Q5_K !falcon=Q4_K
attn_output Q3_K_L: falcon=Q4_K !experts8=Q5_K
attn_output IQ3_XS IQ3_S Q3_K_S IQ4_NL IQ4_XS Q4_K_S Q4_K_M: !falcon&experts8=Q5_K

attn_qkv Q3_K_M Q3_K_L IQ3_M: Q4_K
attn_qkv Q4_K_M: Q5_K
attn_qkv Q5_K_M: Q6_K

ffn_gate IQ3_XS: middle=IQ3_XXS
ffn_up IQ3_XS: middle=IQ3_XXS
"""

_ROLES = {
    "attn_v.weight": "attn_v",
    "attn_k.weight": "attn_k",
    "attn_q.weight": "attn_q",
    "ffn_down": "ffn_down",
    "attn_output.weight": "attn_output",
    "attn_qkv.weight": "attn_qkv",
    "ffn_gate": "ffn_gate",
    "ffn_up": "ffn_up",
}

_PRE_TOKENIZERS = """
default llama3 llama-v3 llama-bpe falcon3 pixtral deepseek-llm deepseek-coder deepseek-v3 falcon mpt
starcoder gpt-2 phi-2 jina-es jina-de gigachat jina-v1-en jina-v2-es jina-v2-de jina-v2-code
roberta-bpe refact command-r qwen2 deepseek-r1-qwen stablelm2 olmo dbrx smaug-bpe poro-chat glm4
chatglm-bpe viking jais tekken smollm codeshell bloom gpt3-finnish exaone chameleon minerva-7b
megrez gpt-4o llama4 superbpe trillion bailingmoe
"""

_TO_IQ4_NL = "IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ3_XXS IQ3_S IQ4_XS Q2_K Q3_K"
_TIME_MIX = "first w0 w1 w2 v0 v1 v2 a0 a1 a2 g1 g2 decay_w1 decay_w2 lerp_fused"
_POSITIONS, _TOKEN_TYPES = "position_embd.weight", "token_types.weight"
_TIED = "gptj bert nomic-bert nomic-bert-moe jina-bert-v2 gemma gemma2 command-r cohere2 openelm plm bitnet"

# llama-quantize hands ggml so many weights at once, made up to whole rows, when it has more than one thread.
_CALL_WEIGHTS = 1 << 14

# llama-quantize's --tensor-type came with llama.cpp pull request 12511; its issue 14996 names b5125 as the release. At
# first it took the names of a fixed list only; pull request 13033 (May 2025) opened it to any regular expression. How
# later tags of the span read several patterns for one tensor is not established, so the mix refuses where it matters.
_FIRST_TENSOR_TYPE = 5125


def _mix() -> dict[tuple[str, str], str]:
    mix: dict[tuple[str, str], str] = {}
    for row in filter(None, _MIX.split("\n")):
        left, rule = row.split(": ")
        role, *ftypes = left.split()
        mix |= {(role, ftype): rule for ftype in ftypes}
    return mix


# The keys of a model's shape, in the order in which the converter's base class writes them, and a class of its own.
_SHAPE = (
    *("block_count", "context_length", "embedding_length", "feed_forward_length"),
    *("attention.head_count", "attention.head_count_kv", "rope.freq_base"),
    *("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"),
    *("expert_used_count", "attention.key_length", "attention.value_length", "general.file_type"),
)
_GEMMA3_SHAPE = (
    *("context_length", "embedding_length", "block_count", "feed_forward_length", "attention.head_count"),
    *("attention.layer_norm_rms_epsilon", "attention.key_length", "attention.value_length", "general.file_type"),
    *("rope.freq_base", "attention.sliding_window", "attention.head_count_kv"),
)
_SCALING = ("rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length")

B4867 = Reference(
    first=4867,
    last=5490,
    names=(),
    generation=1,
    arithmetic=QuantArithmetic.B4234,
    call_weights={"IQ1_S": _CALL_WEIGHTS, "IQ1_M": _CALL_WEIGHTS},
    ftypes={name: found for name, found in FTYPES.items() if name not in LATER},
    roles=_ROLES,
    mix=_mix(),
    attention_values=("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"),
    is_attention_checked=True,
    embeddings=("token_embd.weight",),
    tied_embeddings=("token_embd.weight",),
    embeddings_by_option=("token_embd.weight",),
    is_embedding_named=False,
    large=dict.fromkeys(("llama", "deci", "qwen2", "qwen2vl", "olmo"), 80),
    fallbacks={
        **dict.fromkeys(_TO_IQ4_NL.split(), "IQ4_NL"),
        "TQ1_0": "Q4_0",
        "TQ2_0": "Q4_0",
        "Q4_K": "Q5_0",
        "Q5_K": "Q5_1",
        "Q6_K": "Q8_0",
    },
    kept=(  # small matrices from whose loss a model suffers
        "_norm.weight",
        "ffn_gate_inp.weight",
        "ssm_conv1d.weight",
        "attn_rel_b.weight",
        *(f"time_mix_{part}.weight" for part in _TIME_MIX.split()),
    ),
    kept_names={
        "gpt2": frozenset({_POSITIONS}),
        "mpt": frozenset({_POSITIONS}),
        "starcoder": frozenset({_POSITIONS}),
        "bert": frozenset({_POSITIONS, _TOKEN_TYPES}),
        "nomic-bert": frozenset({_TOKEN_TYPES}),
        "nomic-bert-moe": frozenset({_TOKEN_TYPES}),
        "jina-bert-v2": frozenset({_TOKEN_TYPES}),
    },
    kept_parts={},
    least={},
    tied_architectures=frozenset(_TIED.split()),
    patterns="unsure",
    pure_fits=False,
    nextn_layers_count=True,
    needs_importance={
        ("IQ2_XXS", "*"): frozenset(),
        ("IQ2_XS", "*"): frozenset(),
        ("IQ2_S", "*"): frozenset(),
        ("IQ1_S", "*"): frozenset(),
        ("IQ1_M", "*"): frozenset({"token_embd.weight", "output.weight"}),
        ("Q2_K", "Q2_K_S"): frozenset({"token_embd.weight"}),
    },
    order=layer_order,
    header=Header(
        keys={
            "general.quantization_version": (ValueType.UINT32, 2),  # ggml.h GGML_QNT_VERSION
            "general.file_type": (ValueType.UINT32, "ftype"),
        },
        imatrix_keys={
            "quantize.imatrix.file": (ValueType.STRING, "name"),
            "quantize.imatrix.dataset": (ValueType.STRING, "dataset"),
            "quantize.imatrix.entries_count": (ValueType.INT32, "entries"),
            "quantize.imatrix.chunks_count": (ValueType.INT32, "chunks"),
        },
        whole_number=ValueType.INT32,
        text_limit=127,
    ),
    imatrix=ImatrixRules(
        form="dat",
        order=hash_order,
        whole_only=True,
        calls="batches",
        parses_special=False,
        batch=512,
        least_batch=16,
    ),
    converter=Converter(
        tag="b5490",
        shown=(4867, 5490),
        out_type="BF16",  # this project's; the converter's own would be F16
        auto="first tensor",
        parts=("general", "model", "vocabulary"),
        general=(
            *("name", "author", "version", "organization", "finetune", "basename", "description", "size_label"),
            *("license", "license.name", "license.link"),
            *("source.url", "source.doi", "source.uuid", "source.repo_url"),
        ),
        sampling={},
        shape=_SHAPE,
        last=_SCALING,
        model={
            "qwen3moe": (*_SHAPE, "expert_count", "expert_feed_forward_length", *_SCALING),
            "gemma3": (*_GEMMA3_SHAPE, *_SCALING),
        },
        reranks=False,
        vocabularies={},
        tokens=TokenRules(
            is_processed=False,
            is_stated_first=True,
            bytes_add_none=False,
            leading_is_bos=False,
            normalizer=(),
            is_prefix_first=False,
            is_bos_replaced=False,
            has_text_ids=False,
            takes_surplus=False,
            is_jinja_first=True,
        ),
    ),
    options={
        "--tensor-type": _FIRST_TENSOR_TYPE,
        # Pull request 13037 (after b5640) brought it, but it wrote the weights that the base has by a layer's new name.
        # The first library seen without that is b10715's, as b8305's is the first with the next two.
        "--prune-layers": 10715,
        "--tensor-type-file": 8305,
        "--dry-run": 8305,
    },
    tokenizers=("none", "no_vocab", "llama", "bert", "gpt2", "t5", "rwkv"),
    pre_tokenizers=tuple(_PRE_TOKENIZERS.split()),
)
