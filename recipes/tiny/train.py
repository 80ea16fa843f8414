"""Trains the tiny model: tokenizer, weights and every file of the Hugging Face folder beside this script.

usage: python train.py --corpus corpus.jsonl --evaluation evaluation.txt --out FOLDER [--steps N] [--resume FOLDER] ...

corpus.jsonl and evaluation.txt come from texts.py, which says where each text is from; this script downloads nothing.
It needs torch, tokenizers and safetensors. The seed fixes the initial weights and the order of the data; another number
of threads or another torch adds in another order, so weights may differ in their last bits, and then more.
"""

import argparse
import json
import math
import random
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn

VOCAB, HIDDEN, FFN, LAYERS, HEADS, KV_HEADS, HEAD = 2048, 256, 768, 4, 4, 2, 64
THETA, EPS, CONTEXT = 10_000.0, 1e-6, 2048
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
END, IM_END = VOCAB - 3, VOCAB - 1
TOKENS_PER_STEP, MUON_PEAK, ADAMW_PEAK, WARMUP, DECAY = 2048, 0.02, 3e-3, 50, 0.1
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def chatml(talk: list[dict[str, str]]) -> str:
    return "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in talk)


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Qwen2's byte-level BPE with a small vocabulary: 256 bytes, merges, then the three special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB - len(SPECIAL), initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL])
    assert tokenizer.get_vocab_size() == VOCAB
    assert tokenizer.token_to_id(SPECIAL[0]) == END
    return tokenizer


class RMSNorm(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, EPS)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(HIDDEN, HEADS * HEAD)
        self.k_proj = nn.Linear(HIDDEN, KV_HEADS * HEAD)
        self.v_proj = nn.Linear(HIDDEN, KV_HEADS * HEAD)
        self.o_proj = nn.Linear(HEADS * HEAD, HIDDEN, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        def rotate(y: Tensor) -> Tensor:
            y = y.view(*x.shape[:2], -1, HEAD).transpose(1, 2)
            a, b = y.chunk(2, -1)
            return torch.cat((a * cos - b * sin, b * cos + a * sin), -1).to(y.dtype)

        q, k = rotate(self.q_proj(x)), rotate(self.k_proj(x)).repeat_interleave(HEADS // KV_HEADS, 1)
        v = self.v_proj(x).view(*x.shape[:2], -1, HEAD).transpose(1, 2).repeat_interleave(HEADS // KV_HEADS, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o_proj(y.transpose(1, 2).reshape(*x.shape[:2], -1))


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(HIDDEN, FFN, bias=False)
        self.up_proj = nn.Linear(HIDDEN, FFN, bias=False)
        self.down_proj = nn.Linear(FFN, HIDDEN, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.mlp = Attention(), MLP()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(HIDDEN), RMSNorm(HIDDEN)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class Qwen2(nn.Module):
    """The architecture with Hugging Face's names; the output is the embedding's transpose."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(VOCAB, HIDDEN)
        self.model.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.model.norm = RMSNorm(HIDDEN)
        angles = torch.outer(torch.arange(CONTEXT), THETA ** (-torch.arange(0, HEAD, 2) / HEAD))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(p)
            elif p.dim() == 2:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * LAYERS if residual else 1))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, self.cos[: ids.shape[1]], self.sin[: ids.shape[1]])
        return F.linear(self.model.norm(x), self.model.embed_tokens.weight)


def windows(documents: list[list[int]], seed: int, ordered: bool) -> Iterator[tuple[Tensor, int]]:
    """Endless places of 512 tokens in the joined documents, whose order changes with each pass over them."""
    rng = random.Random(seed)
    while True:
        rng.shuffle(documents)
        tokens = torch.tensor([token for document in documents for token in document])
        firsts = range(0, len(tokens) - 2 * TOKENS_PER_STEP, TOKENS_PER_STEP + 1)
        places = [first + at for first in firsts for at in range(0, TOKENS_PER_STEP, 512)]
        if not ordered:
            rng.shuffle(places)
        yield from ((tokens, place) for place in places)


def batches(documents: list[list[int]], options: argparse.Namespace) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs and targets of TOKENS_PER_STEP tokens: windows of 512, and some of the whole context in the last tenth."""
    stream = windows(documents, options.seed, options.ordered)
    for step in range(options.steps):
        chosen, length = list(islice(stream, TOKENS_PER_STEP // 512)), 512
        if step >= 0.9 * options.steps and step % 6 == 5:
            chosen, length = chosen[:1], CONTEXT
        rows = torch.stack([tokens[place : place + length + 1] for tokens, place in chosen])
        yield rows[:, :-1], rows[:, 1:]


def train(model: Qwen2, documents: list[list[int]], options: argparse.Namespace) -> None:
    inner = [p for name, p in model.named_parameters() if p.dim() == 2 and ".layers." in name]
    outer = [p for name, p in model.named_parameters() if p.dim() != 2 or ".layers." not in name]
    optimizers = (
        torch.optim.Muon(inner, lr=MUON_PEAK, weight_decay=DECAY, adjust_lr_fn="original"),
        torch.optim.AdamW(outer, lr=ADAMW_PEAK, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    )
    groups = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    start, losses, steps = time.monotonic(), [], options.steps
    for step, (x, y) in enumerate(batches(documents, options)):
        rate = min(1.0, (step + 1) / WARMUP, (steps - step) / (0.3 * steps))  # warm-up, constant, then linearly down
        for group, peak in groups:
            group["lr"] = peak * rate
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 100 == 99 or step == steps - 1:
            speed = (step + 1) * TOKENS_PER_STEP / (time.monotonic() - start)
            loss = torch.tensor(losses[-100:]).mean().item()
            print(f"step {step + 1}/{steps} loss {loss:.3f} {speed:,.0f} tokens/s", flush=True)


@torch.inference_mode()
def evaluate(model: Qwen2, ids: list[int], context: int = 512) -> float:
    """Perplexity as llama-perplexity counts it: whole chunks, of each the second half after its first token."""
    total, count, first = 0.0, 0, context // 2
    for at in range(0, len(ids) - context + 1, context):
        chunk = torch.tensor(ids[at : at + context])
        logits = model(chunk[None])[0, first : context - 1]
        total += F.cross_entropy(logits, chunk[first + 1 :], reduction="sum").item()
        count += context - 1 - first
    return math.exp(total / count)


def baselines(documents: list[list[int]], ids: list[int]) -> tuple[float, float]:
    """Perplexity of a unigram and of a bigram model (Witten-Bell smoothed) of the training tokens."""
    tokens = [t for d in documents for t in d]
    unigram, bigram = Counter(tokens), Counter(pairwise(tokens))
    followers = Counter(a for a, _ in bigram)
    one = {t: (unigram[t] + 1) / (len(tokens) + VOCAB) for t in range(VOCAB)}

    def two(a: int, b: int) -> float:
        return (bigram[a, b] + followers[a] * one[b]) / (unigram[a] + followers[a]) if unigram[a] else one[b]

    pairs = list(pairwise(ids))
    return (
        math.exp(-sum(math.log(one[b]) for _, b in pairs) / len(pairs)),
        math.exp(-sum(math.log(two(a, b)) for a, b in pairs) / len(pairs)),
    )


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save(out: Path, model: Qwen2, tokenizer: Tokenizer) -> None:
    out.mkdir(parents=True, exist_ok=True)
    tensors = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in model.named_parameters()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    value = json.loads(tokenizer.to_str())
    merges = value["model"]["merges"]
    value["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in merges]  # the form of Qwen2's file
    write(out / "tokenizer.json", value)
    added = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    tokens = {str(END + n): {"content": text, **added} for n, text in enumerate(SPECIAL)}
    names = {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None}
    rest = {"add_bos_token": False, "add_prefix_space": False, "clean_up_tokenization_spaces": False}
    rest |= {"errors": "replace", "model_max_length": CONTEXT, "split_special_tokens": False}
    rest |= {"tokenizer_class": "Qwen2Tokenizer"}
    specials = {"added_tokens_decoder": tokens, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    write(out / "tokenizer_config.json", {**names, **specials, "chat_template": CHAT_TEMPLATE, **rest})
    shape = {"hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    shape |= {"num_key_value_heads": KV_HEADS, "vocab_size": VOCAB, "max_position_embeddings": CONTEXT}
    other = {"hidden_act": "silu", "rms_norm_eps": EPS, "rope_theta": THETA, "tie_word_embeddings": True}
    other |= {"attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True, "use_sliding_window": False}
    ids = {"bos_token_id": END, "eos_token_id": IM_END}
    kind = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "torch_dtype": "bfloat16"}
    write(out / "config.json", {**kind, **shape, **other, **ids})
    sampling = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.05}
    write(out / "generation_config.json", {**ids, "eos_token_id": [IM_END, END], "pad_token_id": END, **sampling})


def load_weights(model: Qwen2, folder: Path) -> None:
    model.load_state_dict({name: t.float() for name, t in load_file(folder / "model.safetensors").items()})


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--evaluation", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", type=Path, help="start from the weights of this folder")
    parser.add_argument("--ordered", action="store_true", help="take windows in the documents' order")
    parser.add_argument("--seed", type=int, default=5490)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    lines = [json.loads(line) for line in options.corpus.read_text(encoding="utf-8").splitlines()]
    texts = [chatml(line["chat"]) if "chat" in line else line["text"] for line in lines]
    tokenizer = train_tokenizer(texts)
    documents = [[*encoding.ids, END] for encoding in tokenizer.encode_batch(texts)]
    size = sum(map(len, documents))
    text = options.evaluation.read_text(encoding="utf-8")
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids) == text
    model = Qwen2()
    if options.resume:
        load_weights(model, options.resume)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {size:,} tokens of training text", flush=True)
    train(model, documents, options)
    save(options.out, model, tokenizer)
    load_weights(model, options.out)
    perplexity, (one, two) = evaluate(model, ids), baselines(documents, ids)
    trained, length = options.steps * TOKENS_PER_STEP, len(text.encode())
    per_byte = math.log2(perplexity) * len(ids) / length
    print(f"trained on {trained:,} tokens; evaluation text: {len(ids):,} tokens, {length:,} bytes")
    print(f"perplexity {perplexity:.3f} ({per_byte:.3f} bits per byte); unigram {one:.1f}, bigram {two:.1f}")


if __name__ == "__main__":
    main()
