"""What the names of a checkpoint's files say of it. A no-op reads this, so that it needs little."""

import re
from collections.abc import Iterable

from quantmill.errors import UsageError, listed, way

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MERGE = "merge it into its base model first"
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")


def check_names(where: str, names: Iterable[str]) -> None:
    """UsageError when by the names alone a folder or repository is no checkpoint that can be converted."""
    there = set(names)
    weights = sorted(name for name in there if name.endswith(".safetensors"))
    own = [name for name in weights if name.startswith("model")]
    if own:
        _check_shards(where, own, INDEX in there)
        return
    if any(name.startswith("adapter_") for name in there):
        raise UsageError(f"{where}: a LoRA adapter ({min(n for n in there if n.startswith('adapter_'))}); {MERGE}")
    if weights:
        raise UsageError(
            f"{where}: its weights are named {listed(weights)}; those of a model in Hugging Face layout are named "
            f"model.safetensors, or model-00001-of-00002.safetensors and so on beside {INDEX}"
        )
    if ggufs := sorted(name for name in there if name.endswith(".gguf")):
        by = way(" by `[base] gguf`")
        raise UsageError(f"{where}: it holds GGUF files ({listed(ggufs)}) and no checkpoint; name one of them{by}")


def _check_shards(where: str, names: list[str], index: bool) -> None:
    found = {name: match for name in names if (match := _SHARD.fullmatch(name))}
    if "model.safetensors" in names or not found:
        return
    first = next(iter(found.values()))
    stem, count = first[1], int(first[3])
    wanted = [f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, min(count, 10_000) + 1)]
    if missing := [name for name in wanted if name not in names]:
        raise UsageError(f"{where}: {listed(missing)} of {count} shards is missing; fetch what is missing")
    if not index:
        raise UsageError(f"{where}: its weights are {count} shards, but {INDEX} is missing, which says what they hold")
