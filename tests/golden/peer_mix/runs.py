"""How recorded choices of types are written down, and the calls with options that were recorded."""

from typing import Any

# Options of llama-quantize, on a few models and ftypes: (options, what they are to plan_types).
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--pure", {"pure": True}),
    ("--leave-output-tensor", {"leave_output_tensor": True}),
    ("--output-tensor-type f16", {"output_tensor_type": "F16"}),
    ("--token-embedding-type q4_1", {"token_embedding_type": "Q4_1"}),
    (
        "--pure --token-embedding-type q8_0 --output-tensor-type bf16",
        {"pure": True, "token_embedding_type": "Q8_0", "output_tensor_type": "BF16"},
    ),
    ("--tensor-type attn_v=q8_0", {"tensor_types": (("attn_v", "Q8_0"),)}),
    (
        "--tensor-type ffn_down=q5_0 --tensor-type attn_v=q6_k --output-tensor-type q8_0",
        {"tensor_types": (("ffn_down", "Q5_0"), ("attn_v", "Q6_K")), "output_tensor_type": "Q8_0"},
    ),
    ("--pure --tensor-type attn_v=q8_0", {"pure": True, "tensor_types": (("attn_v", "Q8_0"),)}),
]
OPTION_MODELS = ("tiny", "qwen2-24", "smollm2", "mixtral")
OPTION_FTYPES = ("Q4_K_M", "Q4_0", "Q3_K_S", "F16", "Q5_K_L")


def role(name: str) -> tuple[str, int]:
    """A tensor's name without its layer and ending, and the layer (-1 outside)."""
    head, blk, rest = name.removesuffix(".weight").partition("blk.")
    if not blk:
        return head, -1
    number, _, part = rest.partition(".")
    return f"{head}*.{part}", int(number)


def run_lengths(types: dict[str, str]) -> dict[str, str]:
    """Roles by their types in layer order: {"Q6_K*2 Q4_K*22": "*.attn_v *.ffn_down", "Q6_K": "output"}."""
    by_role: dict[str, list[tuple[int, str]]] = {}
    for name, type_ in types.items():
        part, number = role(name)
        by_role.setdefault(part, []).append((number, type_))
    found: dict[str, list[str]] = {}
    for part, members in sorted(by_role.items()):
        runs: list[list[Any]] = []
        for _, type_ in sorted(members):
            if runs and runs[-1][0] == type_:
                runs[-1][1] += 1
            else:
                runs.append([type_, 1])
        found.setdefault(" ".join(t if count == 1 else f"{t}*{count}" for t, count in runs), []).append(part)
    return {runs: " ".join(parts) for runs, parts in found.items()}
