"""split: one GGUF file into the shards that llama-gguf-split makes, where it is larger than the release allows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill import gguf
from quantmill.artifact import Artifact, Context


def run(
    inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context
) -> Mapping[str, Artifact] | None:
    """One GGUF file in (under any name); params: `max_size` in bytes (0: any size) and `prefix`, the name without
    `.gguf`.

    A file within `max_size`, or of one shard by llama-gguf-split's count, comes out unchanged as `<prefix>.gguf`,
    without a copy; any other as `<prefix>/<prefix>-00001-of-0000N.gguf` and so on. `gguf.shard_sizes` tells which, and
    how large.
    """
    (whole,) = inputs.values()
    prefix, max_size = str(params["prefix"]), int(params["max_size"])
    if not max_size:
        return {f"{prefix}.gguf": whole}
    with gguf.read(whole.path, f"{prefix}.gguf") as file:
        split = whole.size > max_size and (
            len(gguf.plan_shards(file.metadata.values(), file.tensor_entries(), max_size=max_size)) > 1
        )
    if not split:
        return {f"{prefix}.gguf": whole}
    gguf.split(whole.path, out / prefix, prefix, max_size=max_size, progress=context.progress)
    return None
