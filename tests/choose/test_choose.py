"""choose: the file for each of many machines, with the reason for it, and never a file that does not fit."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from models_released import CONFIGS, Model, model
from quantmill.choose import rules
from quantmill.choose.choice import Candidate, NothingFits, choose
from quantmill.choose.machine import BACKENDS, GPUS, machine, memories, memory
from quantmill.choose.placement import best_placement
from quantmill.released import Bench, BenchRow, Quality, ReleasedFile

# Backend, graphics memory, main memory, model, goal, tokens of context; the expected file, and why.
# 32B is inf-o1-pi0: 262 kB of cache a token (2.15 GB for 8192), 0.83 GB of buffers: beside the weights 3.0 GB;
# the token embedding, which stays in main memory, has 0.3 to 0.8 GB of the file.
# 8B is Qwen3-8B: 147 kB a token (1.21 GB for 8192), 0.62 GB of buffers. 3B is Tessa: 37 kB a token (0.3 GB), 0.37 GB.
MACHINES = """
# one NVIDIA card, speed: all of it on the card, with 1 to 2 GB (a twentieth) to spare
cuda       4GB      16GB   3B  speed     8192 Q5_K_L  4 less 1 to spare and 0.7 leaves 2.3: Q5_K_L has 2.3, Q6_K 2.5
cuda       6GB      16GB   3B  speed     8192 Q8_0    5 less 0.7 leaves 4.3: Q8_0 has 3.3; 16 bits would not fit
cuda       6GB      16GB   8B  speed     8192 IQ3_XXS 5 less 1.8 leaves 3.2, 0.3 of embedding stay behind
cuda       8GB      16GB   8B  speed     8192 Q4_K_L  7 less 1.8 leaves 5.2: Q4_K_L has 5.5, less 0.7 of embedding
cuda       8GB      16GB   8B  speed     4096 Q5_K_L  a shorter context leaves 0.9 GB more: 5 bits
cuda       12GB     32GB   8B  speed     8192 Q8_0    11 less 1.8 leaves 9.2: Q8_0 has 8.7
cuda       12GB     32GB   8B  speed    32768 IQ3_M   4.8 of cache and 2.2 of scores leave 3.9 of 11
cuda       12GB     32GB   32B speed     8192 Q4_K_S  11 less 3.0 is less than any file has: 4 bits
cuda       12GB     32GB   32B quality   8192 Q8_0    11 and 30 hold 34.8 and the context
cuda       16GB     32GB   32B speed     8192 IQ2_M   15 less 3.0 leaves 11.9: below Q4 on CUDA an I-quant
cuda       16GB     32GB   32B speed     2048 IQ3_XS  cache 0.5 and buffers 0.6 leave 13.9
cuda       16GB     32GB   32B quality   8192 Q8_0    15 and 30 hold 34.8 with 4 for context
cuda       24GB     64GB   32B speed     8192 Q4_K_L  22.8 less 3.0 leaves 19.7, and 0.8 of embedding stay in RAM
cuda       24GB     64GB   32B speed    16384 IQ3_M   cache 4.3 and buffers 1.5 leave 17.0: not for IQ4_XS
cuda       24GB     64GB   32B quality   8192 Q8_0    22.8 and 60: everything but 16 bits
cuda       32GB     64GB   32B speed     8192 Q6_K_L  30.4 less 3.0 leaves 27.3, and the embedding in RAM
cuda       48GB     128GB  32B speed     8192 Q8_0    46 less 3.0 leaves 42.9
cuda       48GB     128GB  32B quality   8192 Q8_0    16 bits would lie on the CPU in part
cuda       80GB     256GB  32B speed     8192 Q8_0    speed never takes 16 bits
cuda       80GB     256GB  32B quality   8192 BF16    all of the original fits on the card, and quality was asked
# several cards: whole layers on each, and a buffer on each
cuda       2x12GB   64GB   32B speed     8192 IQ4_XS  2 x 11 less two buffers and the cache leave 18.2
cuda       2x24GB   128GB  32B speed     8192 Q8_0    45.6 less 4 leaves 41.6
cuda       24GB,8GB 64GB   32B speed     8192 Q5_K_L  22.8 and 7 less buffers and cache leave 26
cuda       4x24GB   256GB  32B quality   8192 BF16    4 x 22.8 holds 65.5 and the rest
cuda       2x80GB   512GB  32B speed   131072 Q8_0    34 of cache and 10.7 of scores on each card still fit
cuda       2x80GB   512GB  32B quality   8192 BF16    a server: the original itself
# AMD: ROCm is as CUDA, Vulkan takes no I-quants
rocm       16GB     32GB   32B speed     8192 IQ2_M   as with CUDA
rocm       20GB     32GB   32B speed     8192 IQ3_M   19 less 3.0 leaves 15.9
vulkan     16GB     32GB   32B speed     8192 Q4_K_S  Q2_K's 12.3 does not fit in 11.9, so 4 bits with the CPU
vulkan     20GB     32GB   32B speed     8192 Q3_K_M  19 less 3.0 leaves 15.9: a K-quant
vulkan     8GB      32GB   8B  speed     8192 Q4_K_L  from Q4 on it is as with CUDA
vulkan     6GB      16GB   8B  speed     8192 Q2_K    where CUDA takes IQ3_XXS, a K-quant
rocm       192GB    1000GB 32B quality  32768 BF16    one accelerator holds the original
# Apple: two thirds (three quarters from 36 GB on) of the memory, shared
metal      -        8GB    3B  speed     8192 Q8_0    5.3 less 1 and 0.75 leaves 3.6
metal      -        8GB    8B  speed     4096 IQ3_XXS 4.3 less 0.9 leaves 3.4: more bits, though Q2_K would be faster
metal      -        16GB   8B  speed     8192 Q6_K_L  10.7 less 1 and 1.8 leaves 7.9
metal      -        16GB   32B speed     8192 IQ2_S   Metal's 9.7 less 3.0 hold no file; the processor's 14 hold this
metal      -        36GB   32B speed     8192 Q5_K_S  27 less 1.3 and 3.0 leaves 22.7, without the embedding
metal      -        64GB   32B speed     8192 Q8_0    48 less 2 and 3.1
metal      -        128GB  32B quality   8192 BF16    96 less 2 holds 65.5
# processors: four bits for speed, whatever fits for quality
cpu-avx2   -        8GB    3B  speed     8192 Q4_0    repacked for AVX2
cpu-avx2   -        8GB    8B  speed     8192 Q3_K_M  6 less 1.8 leaves 4.2: no 4-bit file, the best K-quant
cpu-avx2   -        16GB   8B  speed     8192 Q4_0    fits, and is repacked
cpu-avx2   -        16GB   8B  quality   8192 Q8_0    14 less 1.8
cpu-avx2   -        16GB   32B speed     8192 IQ2_S   14 less 3.0 leaves 10.9: the K-quants are larger
cpu-avx512 -        64GB   32B speed     8192 Q4_0    every token reads all weights: 4 bits
cpu-avx512 -        64GB   32B quality   8192 Q8_0    60 less 3.0; 16 bits are not for a CPU
cpu-avx2   -        32GB   32B quality   8192 Q6_K    30 less 3.0 leaves 27.0
# ARM: small boards, phones, servers
arm        -        4GB    3B  speed     4096 Q4_0    a board of 4 GB keeps 1 for itself
arm        -        8GB    3B  speed     8192 Q4_0    repacked for ARM
arm        -        8GB    8B  speed     2048 Q4_0    a short context makes room for 4.8
arm        -        256GB  32B speed     8192 Q4_0    a server's processor is a processor
"""


def machines() -> Iterator[Any]:
    for line in MACHINES.strip().splitlines():
        if not line.startswith("#"):
            backend, vram, ram, name, goal, context, expected, why = line.split(maxsplit=7)
            label = f"{backend}-{vram}-{ram}-{name}-{goal}-{context}"
            yield pytest.param(backend, vram.strip("-"), ram, name, goal, int(context), expected, why, id=label)


def brief(found: Model, backend: str, vram: str, ram: str, goal: str, context: int) -> str:
    made = machine(backend, memories(vram) if vram else (), memory(ram))
    return choose(found.candidates, found.shape, made, goal, context).best.file.ftype


@pytest.mark.parametrize(("backend", "vram", "ram", "name", "goal", "context", "expected", "why"), list(machines()))
def test_the_file_for_a_machine(
    backend: str, vram: str, ram: str, name: str, goal: str, context: int, expected: str, why: str
) -> None:
    assert brief(model(name), backend, vram, ram, goal, context) == expected, why


def test_what_is_chosen_fits() -> None:
    """By sums of our own: the file, the cache of all layers, and a batch of logits, in what the machine has."""
    sizes = ("6GB", "12GB", "24GB", "2x24GB")
    tried = refused = 0
    for name, vram, ram, goal, context in itertools.product(
        CONFIGS, sizes, (4, 8, 16, 64), ("speed", "quality"), (512, 8192, 32768)
    ):
        config, found = CONFIGS[name], model(name)
        head = config["hidden_size"] // config["num_attention_heads"]
        cache = 2 * 2 * config["num_hidden_layers"] * config["num_key_value_heads"] * head * context
        for backend in BACKENDS:
            cards = memories(vram) if backend in GPUS and backend != "metal" else ()
            made = machine(backend, cards, ram * 10**9)
            tried += 1
            try:
                best = choose(found.candidates, found.shape, made, goal, context).best
            except NothingFits:
                refused += 1
                least = min(candidate.file.bytes for candidate in found.candidates)
                assert least + cache > 0.6 * (sum(made.vram) * (not made.unified) + made.ram) - 4e9
                continue
            spare = 0.9e9
            need = best.file.bytes - 7e6 + cache + 512 * 4 * config["vocab_size"]  # less than its header
            assert need <= made.ram + sum(made.vram) * (not made.unified) - spare, (name, made, goal, context, best)
            if best.placement.full:
                embedding = config["vocab_size"] * config["hidden_size"] * (2 if best.file.ftype == "BF16" else 17 / 16)
                assert need - embedding <= sum(made.vram) - spare * len(made.vram)
            elif best.placement.layers == 0:
                assert need <= made.ram - spare
    assert tried == 3 * 4 * 4 * 2 * 3 * 7
    assert refused > 100


def test_nothing_better_fits() -> None:
    for vram in range(6, 60, 3):
        for name in CONFIGS:
            found, made = model(name), machine("cuda", (vram * 10**9,), 8 * 10**9)
            try:
                best = choose(found.candidates, found.shape, made, "speed", 4096).best
            except NothingFits:
                continue
            for candidate in found.candidates:
                placed = best_placement(candidate.weights, found.shape, made, 4096, False)
                if best.placement.full and placed and placed.full and candidate.file.ftype != "BF16":
                    assert rules.by_quality(candidate.file.ftype, made, False) >= rules.by_quality(
                        best.file.ftype, made, False
                    )


def test_more_memory_is_never_worse() -> None:
    for name, backend in itertools.product(CONFIGS, ("cuda", "vulkan")):
        found, before = model(name), 10**6
        for vram in range(5, 100):
            made = machine(backend, (vram * 10**9,), 512 * 10**9)
            best = choose(found.candidates, found.shape, made, "quality", 8192).best.file.ftype
            assert rules.rank(best) <= before
            before = rules.rank(best)


def test_nothing_fits() -> None:
    found = model("32B")
    with pytest.raises(NothingFits) as error:
        choose(found.candidates, found.shape, machine("arm", (), 4 * 10**9), "speed", 8192)
    assert str(error.value) == (
        "no file fits: m-IQ2_XXS.gguf, the smallest, needs 12.00 GB with 8192 tokens of context and there is room for "
        "3.00 GB; take a smaller model or a shorter context"
    )


def measured(found: Model, kld: dict[str, float]) -> tuple[Candidate, ...]:
    return tuple(
        replace(c, file=replace(c.file, quality=Quality(None, None, {"mean": kld[c.file.ftype]}, None)))
        for c in found.candidates
        if c.file.ftype in kld
    )


def test_measured_divergence_overrides_the_rules() -> None:
    found, made = model("32B"), machine("cuda", (20 * 10**9,), 64 * 10**9)
    some = measured(found, {"Q3_K_M": 0.02, "IQ3_M": 0.03, "IQ2_M": 0.2, "Q8_0": 0.001})
    advice = choose(some, found.shape, made, "speed", 8192)
    assert advice.best.file.ftype == "Q3_K_M"
    assert "Of these it has the smallest measured KL divergence." in advice.why
    assert advice.next is not None
    assert advice.next.file.ftype == "IQ3_M"
    half = (*some[:-1], replace(some[-1], file=replace(some[-1].file, quality=None)))
    assert choose(half, found.shape, made, "speed", 8192).best.file.ftype == "IQ3_M"


def test_measured_speed_overrides_the_rules() -> None:
    found, made = model("8B"), machine("cpu-avx512", (), 64 * 10**9)
    rates = {"Q4_0": 9.0, "Q4_1": 8.0, "Q4_K_S": 11.0, "Q4_K_M": 10.5, "Q4_K_L": 10.0, "IQ4_XS": 7.0, "IQ4_NL": 7.5}
    rows = tuple(BenchRow(ftype, "tg128", rate, 0.1, None) for ftype, rate in rates.items())
    bench = Bench("cpu", 8, "CPU", rows)
    advice = choose(found.candidates, found.shape, made, "speed", 8192, bench=bench)
    assert advice.best.file.ftype == "Q4_K_S"
    assert advice.why[0] == "Of the 4-bit files it has the highest measured speed."
    prompts = Bench("cpu", 8, "CPU", tuple(replace(row, test="pp512") for row in rows))
    assert choose(found.candidates, found.shape, made, "speed", 8192, bench=prompts).best.file.ftype == "Q4_0"


def test_vulkan_takes_no_i_quant_even_alone() -> None:
    found = model("8B")
    only = tuple(c for c in found.candidates if c.file.ftype.startswith("IQ"))
    with pytest.raises(NothingFits, match=r"^only I-quants or 16-bit files fit, which are not for vulkan; "):
        choose(only, found.shape, machine("vulkan", (24 * 10**9,), 64 * 10**9), "speed", 8192)


def test_flash_attention_makes_room() -> None:
    found, made = model("32B"), machine("cuda", (24 * 10**9,), 64 * 10**9)
    plain, flash = (
        choose(found.candidates, found.shape, made, "speed", 32768, flash=flag).best.file.bytes
        for flag in (False, True)
    )
    assert flash > plain


def test_layers_on_the_cards() -> None:
    found = model("32B")
    weights = found.of("Q4_K_M").weights
    assert weights.total == pytest.approx(19.85e9, abs=0.01e9)
    assert len(weights.layers) == 64
    counts = []
    for vram in range(30):
        made = machine("cuda", (vram * 10**9,), 64 * 10**9) if vram else machine("cpu-avx2", (), 64 * 10**9)
        placed = best_placement(weights, found.shape, made, 8192, False)
        assert placed is not None
        counts.append(placed.layers)
    assert counts == sorted(counts)
    assert (counts[0], counts[12], counts[-1]) == (0, 31, 65)


def test_two_cards_hold_what_one_of_both_sizes_does_not() -> None:
    found = model("32B")
    weights = found.of("Q5_K_M").weights
    two = best_placement(weights, found.shape, machine("cuda", (16 * 10**9,) * 2, 64 * 10**9), 4096, False)
    one = best_placement(weights, found.shape, machine("cuda", (16 * 10**9,), 64 * 10**9), 4096, False)
    assert two is not None
    assert one is not None
    assert two.full
    assert not one.full


def test_files_of_unknown_ftypes_come_last() -> None:
    found, made = model("3B"), machine("cuda", (24 * 10**9,), 64 * 10**9)
    odd = Candidate(ReleasedFile("odd.gguf", "NEW", 10**9, 1), found.of("Q4_0").weights)
    assert choose((odd, found.of("Q4_0")), found.shape, made, "speed", 512).best.file.ftype == "Q4_0"
    assert choose((odd,), found.shape, made, "speed", 512).best.file.ftype == "NEW"


def test_the_next_best_is_no_copy_of_the_best() -> None:
    found, made = model("32B"), machine("cuda", (24 * 10**9,), 64 * 10**9)
    best = choose(found.candidates, found.shape, made, "speed", 8192).best.file.ftype
    twins = tuple(
        replace(c, file=replace(c.file, digest="a")) if c.file.ftype in (best, "Q4_K_M") else c
        for c in found.candidates
    )
    advice = choose(twins, found.shape, made, "speed", 8192)
    assert best == "Q4_K_L"
    assert advice.best.file.ftype == "Q4_K_M"
    assert advice.next is not None
    assert advice.next.file.ftype != "Q4_K_L"


def test_no_file_is_fast_enough_to_excuse_a_large_measured_loss() -> None:
    found, made = model("8B"), machine("arm", (), 64 * 10**9)
    assert choose(found.candidates, found.shape, made, "speed", 8192).best.file.ftype == "Q4_0"
    losses = {"Q4_0": 0.19, "IQ4_NL": 0.15, "Q4_K_S": 0.03}
    some = tuple(measured(found, losses))
    others = tuple(c for c in found.candidates if c.file.ftype not in losses)
    assert choose((*some, *others), found.shape, made, "speed", 8192).best.file.ftype == "Q4_K_S"
    assert choose(some[:2], found.shape, made, "speed", 8192).best.file.quality is not None
