"""Which architectures the tools of a llama.cpp load: each from the first build of which a library was asked.

A library that does not know a model's `general.architecture` says so before all else. Those that the oldest one asked,
b4980's, knew stand for every tag offered; the six of b5200 are in a source of that time (llama-cpp-python 0.3.9's).
"""

import re

from quantmill.gguf.errors import shown

_FIRST = """
4867 arctic arwkv7 baichuan bert bitnet bloom chameleon chatglm codeshell cohere2 command-r dbrx deci deepseek
4867 deepseek2 exaone falcon gemma gemma2 gemma3 gpt2 gptj gptneox granite granitemoe grok internlm2 jais
4867 jina-bert-v2 llama mamba minicpm minicpm3 mpt nemotron nomic-bert olmo olmo2 olmoe openelm orion phi2 phi3
4867 phimoe plamo plm qwen qwen2 qwen2moe qwen2vl refact rwkv6 rwkv6qwen2 rwkv7 stablelm starcoder starcoder2 t5
4867 t5encoder wavtokenizer-dec xverse
5200 bailingmoe glm4 llama4 nomic-bert-moe qwen3 qwen3moe
6122 arcee dots1 dream ernie4_5 ernie4_5-moe exaone4 falcon-h1 gemma3n glm4moe gpt-oss granitehybrid
6122 hunyuan-dense hunyuan-moe jamba lfm2 llada mamba2 neo-bert plamo2 smallthinker smollm3
6301 seed_oss
6431 gemma-embedding jina-bert-v3 nemotron_h
6673 apertus grovemoe llada-moe
6845 bailingmoe2 clip lfm2moe
7324 afmoe cogvlm minimax-m2 mistral3 pangu-embedded qwen3next qwen3vl qwen3vlmoe rnd1
7698 llama-embed maincoder mimo2 modern-bert nemotron_h_moe plamo3
7836 exaone-moe
8095 glm-dsa kimi-linear qwen35 qwen35moe step35
8121 jais2 paddleocr
8179 eurobert
8390 mistral4
8560 deepseek2-ocr
8660 gemma4
8943 hunyuan_vl
9554 deepseek32 gemma4-assistant mellum talkie
9756 cohere2moe eagle3
9842 deepseek4 dflash
10068 hy_v3
10133 laguna
10236 minimax-m3 nanbeige
10361 graniteswitch muse-glimmer qwen3tts
10603 bailingmoe3 dots3note granite_swa kimi-k3 minimax-01 pockettts
10715 qwen4exp
11067 hrm_text hy_v4 maple spark2_5
11312 glm5-next
"""

FIRST: dict[str, int] = {
    name: int(build) for build, *names in (row.split() for row in _FIRST.split("\n") if row) for name in names
}
_GONE = {"clip": range(9102, 10361)}  # builds that knew it no longer, and not yet again
_VERSIONS = {"v0.4.0": 10715, "v0.5.0": 11227}  # a version → a build that knows the same


def unknown(tag: str, architecture: object) -> str:
    """What is to be said of an architecture that llama.cpp of a tag does not know; empty for one that it does."""
    if knows(tag, str(architecture)):
        return ""
    return (
        f"llama.cpp {tag} knows no architecture {shown(str(architecture))}: it neither quantizes nor loads such a "
        "file, so that nothing is said of the files' bytes beside its own"
    )


def knows(tag: str, architecture: str) -> bool:
    """Whether llama.cpp of an offered tag loads models of an architecture. A tag that is no known version counts as the
    newest."""
    build = re.fullmatch(r"b([0-9]+)", tag)
    number = int(build[1]) if build else _VERSIONS.get(tag, max(FIRST.values()))
    return FIRST.get(architecture, number + 1) <= number and number not in _GONE.get(architecture, ())
