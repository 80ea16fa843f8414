"""What the kernels compute of mixtures and sinks, against formulas: one layer, handed its numbers and tensors alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quantmill import _kernels

Floats = NDArray[np.float64]

WIDTH, HIDDEN, SHARED, EXPERTS, USED, HEADS, HEAD, VOCABULARY, LENGTH = 64, 32, 96, 8, 3, 4, 16, 50, 40
EPS, SCALE = 1e-5, 0.3
ALPHA, LIMIT = 1.702, 0.7
CHUNK = 16
TOKENS = np.random.default_rng(3).integers(0, VOCABULARY, LENGTH).astype(np.int32)
SCORINGS = ("softmax", "sigmoid", "softmax_chosen", "sigmoid_chosen")
SHAPES = {
    "token_embd": (VOCABULARY, WIDTH),
    "output": (VOCABULARY, WIDTH),
    "attn_q": (WIDTH, WIDTH),
    "attn_k": (HEADS // 2 * HEAD, WIDTH),
    "attn_v": (HEADS // 2 * HEAD, WIDTH),
    "attn_output": (WIDTH, WIDTH),
    "ffn_gate_inp": (EXPERTS, WIDTH),
    "ffn_gate_exps": (EXPERTS, HIDDEN, WIDTH),
    "ffn_up_exps": (EXPERTS, HIDDEN, WIDTH),
    "ffn_down_exps": (EXPERTS, WIDTH, HIDDEN),
}
SHARED_SHAPES = {
    "ffn_gate_shexp": (SHARED, WIDTH),
    "ffn_up_shexp": (SHARED, WIDTH),
    "ffn_down_shexp": (WIDTH, SHARED),
}
UNGATED = {"ffn_up": (HIDDEN, WIDTH), "ffn_down": (WIDTH, HIDDEN)}
BIASES = {
    "ffn_gate_inp.bias": (EXPERTS,),
    "ffn_gate_exps.bias": (EXPERTS, HIDDEN),
    "ffn_up_exps.bias": (EXPERTS, HIDDEN),
    "ffn_down_exps.bias": (EXPERTS, WIDTH),
    "attn_output.bias": (WIDTH,),
}
# The configuration's change, and the tensors that there are besides.
CASES: dict[str, tuple[Mapping[str, float], Mapping[str, tuple[int, ...]]]] = {
    **{name: ({"scoring": number, "shares_normed": 0}, {}) for number, name in enumerate(SCORINGS)},
    "normed": ({"scoring": 0}, {}),
    "sigmoid, chosen with a bias, scaled": (
        {"scoring": 1, "shares_scale": 2.5},
        {"exp_probs_b.bias": (EXPERTS,)},
    ),
    "normed softmax, chosen with a bias": ({"scoring": 0}, {"exp_probs_b.bias": (EXPERTS,)}),
    "groups": ({"scoring": 1, "groups": 4, "groups_used": 2}, {"exp_probs_b.bias": (EXPERTS,)}),
    "groups of softmax": ({"scoring": 0, "groups": 4, "groups_used": 2}, {}),
    "shared": ({"shared_hidden": SHARED}, SHARED_SHAPES),
    "shared with a gate": ({"shared_hidden": SHARED}, SHARED_SHAPES | {"ffn_gate_inp_shexp": (WIDTH,)}),
    "biases, clamped": ({"scoring": 2, "activation": 3}, BIASES),
    "no gate": ({"gated": 0, "activation": 2}, UNGATED | {"ffn_up.bias": (HIDDEN,)}),
    "shares before": ({"scoring": 3, "shares_normed": 0, "shares_before": 1}, {}),
    "chunks": ({"chunked": 1}, {}),
    "growing queries": ({"temper_scale": 0.5, "temper_step": 9, "temper_first": 1}, {}),
    "sinks": ({}, {"attn_sinks": (HEADS,)}),
    "residual scale, norm behind": ({"residual_scale": 0.22}, {"post_ffw_norm": (WIDTH,)}),
}


def configuration(change: Mapping[str, float]) -> dict[str, float]:
    ones = (
        *("embedding_scale", "residual_scale", "logit_scale", "shares_scale", "groups", "groups_used", "layers"),
        *("temper_step", "halves_apart", "attention_normed", "feed_normed", "shares_normed", "gated"),
    )
    none = (
        *("shared_hidden", "score_cap", "logit_cap", "temper_scale", "layer_norm", "parallel", "head_norm"),
        *("activation", "scoring", "chunked", "shares_before", "temper_first"),
    )
    sizes = {"width": WIDTH, "hidden": HIDDEN, "expert_hidden": HIDDEN, "experts": EXPERTS, "experts_used": USED}
    sizes |= {"heads": HEADS, "kv_heads": HEADS // 2, "head_dim": HEAD, "vocabulary": VOCABULARY, "context": LENGTH}
    numbers = {"eps": EPS, "attention_scale": SCALE, "rotated": HEAD, "gate_alpha": ALPHA, "gate_limit": LIMIT}
    return {**dict.fromkeys(ones, 1), **dict.fromkeys(none, 0), **sizes, **numbers, **change}


def tensors(more: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    state = np.random.default_rng(6)
    shapes = {**SHAPES, "attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "output_norm": (WIDTH,), **more}
    return {
        name: (1 + state.uniform(-0.2, 0.2, shape) if "norm" in name else state.uniform(-0.4, 0.4, shape)).astype("f4")
        for name, shape in shapes.items()
    }


def model(change: Mapping[str, float], found: Mapping[str, NDArray[np.float32]], repack: bool) -> _kernels.Model:
    layers = {
        "window": [CHUNK * change.get("chunked", 0)],
        "turns": [0.0],
        "tempers": [float("temper_scale" in change)],
        "mixture": [float("ffn_up" not in found)],
    }
    made = _kernels.Model(configuration(change), layers, 2, repack)
    for name, values in found.items():
        whole = name if name.partition("_")[0] in ("token", "output") else f"blk.0.{name}"
        if name in SHAPES | SHARED_SHAPES | UNGATED:
            flat = values.reshape(-1, values.shape[-1])
            made.set_matrix(whole, "F32", flat.view(np.uint8).reshape(-1), *flat.shape)
        else:
            made.set_vector(whole, values.reshape(-1))
    for name in ("cosines", "sines"):
        made.set_vector(name, np.zeros(LENGTH * HEAD // 2, np.float32))
    return made


def rms(x: Floats, weights: Any) -> Floats:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weights


def sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


def softmax(x: Floats) -> Floats:
    raised = np.exp(x - x.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def attention(x: Floats, of: Mapping[str, Any], how: Mapping[str, float]) -> Floats:
    seen = rms(x, of["attn_norm"])
    q, k, v = ((seen @ of[f"attn_{part}"].T).reshape(LENGTH, -1, HEAD) for part in "qkv")
    k, v = (np.repeat(each, 2, axis=1) for each in (k, v))
    positions = np.arange(LENGTH)
    steps = (positions + how["temper_first"]) // how["temper_step"]
    q = q * (np.log(steps + 1) * how["temper_scale"] + 1)[:, None, None]
    scores = np.einsum("thd,shd->hts", q, k) * SCALE
    scores[:, np.triu(np.ones((LENGTH, LENGTH), bool), 1)] = -np.inf
    chunks = positions // (CHUNK if how["chunked"] else LENGTH)
    scores[:, chunks[:, None] != chunks] = -np.inf
    if "attn_sinks" in of:
        sinks = np.broadcast_to(of["attn_sinks"][:, None, None], (HEADS, LENGTH, 1))
        scores = np.concatenate([scores, sinks], axis=2)
    mixed = np.einsum("hts,shd->thd", softmax(scores)[:, :, :LENGTH], v).reshape(LENGTH, -1)
    return mixed @ of["attn_output"].T + of.get("attn_output.bias", 0)


def routed(logits: Floats, how: Mapping[str, float], bias: Any) -> tuple[NDArray[np.int64], Floats]:
    """(experts, their shares) of one token."""
    scoring = SCORINGS[int(how["scoring"])]
    scores = {"softmax": softmax, "sigmoid": sigmoid}.get(scoring, np.copy)(logits)
    choice = scores + bias
    if how["groups"] > 1:
        groups = choice.reshape(int(how["groups"]), -1)
        best = np.sort(groups)[:, -2:].sum(1)
        groups[best < np.sort(best)[-int(how["groups_used"])]] = -np.inf
    chosen = np.argsort(-choice, kind="stable")[:USED]
    shares = {"softmax_chosen": softmax, "sigmoid_chosen": sigmoid}.get(scoring, np.copy)(scores[chosen])
    return chosen, shares / (shares.sum() if how["shares_normed"] else 1) * how["shares_scale"]


def expert(x: Floats, gate: Floats, up: Floats, clamped: bool) -> Floats:
    if clamped:
        gate, up = np.minimum(gate, LIMIT), np.clip(up, -LIMIT, LIMIT)
        return gate * sigmoid(ALPHA * gate) * (up + 1)
    return gate * sigmoid(gate) * up


def mixture(x: Floats, of: Mapping[str, Any], how: Mapping[str, float]) -> Floats:
    seen, clamped = rms(x, of["ffn_norm"]), how["activation"] == 3
    none = np.zeros((EXPERTS, 1))
    out = np.zeros_like(x)
    for row, token in zip(out, seen, strict=True):
        logits = of["ffn_gate_inp"] @ token + of.get("ffn_gate_inp.bias", 0)
        for number, share in zip(*routed(logits, how, of.get("exp_probs_b.bias", 0)), strict=True):
            seen_by = token * (share if how["shares_before"] else 1)
            gate, up = (
                of[f"ffn_{part}_exps"][number] @ seen_by + of.get(f"ffn_{part}_exps.bias", none)[number]
                for part in ("gate", "up")
            )
            between = expert(token, gate, up, clamped)
            row += (1 if how["shares_before"] else share) * (
                of["ffn_down_exps"][number] @ between + of.get("ffn_down_exps.bias", none)[number]
            )
    if how["shared_hidden"]:
        between = expert(seen, seen @ of["ffn_gate_shexp"].T, seen @ of["ffn_up_shexp"].T, clamped)
        share = sigmoid(seen @ of["ffn_gate_inp_shexp"])[:, None] if "ffn_gate_inp_shexp" in of else 1
        out += share * (between @ of["ffn_down_shexp"].T)
    return rms(out, of["post_ffw_norm"]) if "post_ffw_norm" in of else out


def ungated(x: Floats, of: Mapping[str, Any]) -> Floats:
    return np.maximum(rms(x, of["ffn_norm"]) @ of["ffn_up"].T + of["ffn_up.bias"], 0) ** 2 @ of["ffn_down"].T


def by_formulas(found: Mapping[str, NDArray[np.float32]], how: Mapping[str, float]) -> Floats:
    of: Mapping[str, Any] = {name: values.astype(np.float64) for name, values in found.items()}
    x = of["token_embd"][TOKENS]
    x = x + how["residual_scale"] * attention(x, of, how)
    x = x + how["residual_scale"] * (mixture(x, of, how) if how["gated"] else ungated(x, of))
    return rms(x, of["output_norm"]) @ of["output"].T


@pytest.mark.parametrize("name", CASES)
def test_logits_are_what_the_formulas_say(name: str) -> None:
    change, more = CASES[name]
    found = tensors(more)
    wanted = by_formulas(found, configuration(change))
    for repack in (True, False):
        made, logits = model(change, found, repack), np.empty((LENGTH, VOCABULARY), np.float32)
        made.evaluate(TOKENS, 0, logits)
        assert np.abs(logits - wanted).max() < 2e-3 * np.abs(wanted).max()
        again = model(change, found, repack)
        for at in range(LENGTH // 2):
            one = np.empty((1, VOCABULARY), np.float32)
            again.evaluate(TOKENS[at : at + 1], at, one)
            assert np.abs(one - logits[at]).max() < 2e-4 * np.abs(wanted).max()


def test_a_configuration_that_does_not_fit_is_refused() -> None:
    layers: dict[str, list[float]] = {"window": [0], "turns": [0], "tempers": [0], "mixture": [1]}
    for change, words in (
        ({"groups": 3}, "experts must be a multiple of groups"),
        ({"groups": 4, "groups_used": 5}, "groups_used must be from 1 to 4, not 5"),
        ({"shared_hidden": -1}, "shared_hidden must be from 0 to"),
        ({"parallel": 1}, "parallel parts have the norm before attention and no other"),
    ):
        with pytest.raises(ValueError, match=words):
            _kernels.Model(configuration(change), layers, 1)
    with pytest.raises(ValueError, match="turns must have a number for each layer"):
        _kernels.Model(configuration({}), {**layers, "turns": [1, 0]}, 1)
    with pytest.raises(ValueError, match="mixture must be from 0 to 0"):
        _kernels.Model(configuration({"experts": 0, "experts_used": 0}), layers, 1)
