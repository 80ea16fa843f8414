"""index: the digest of each tensor of the base, by which files share what they quantize to the same bytes."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from quantmill import gguf
from quantmill.artifact import Artifact, Context

CHUNK = 8 << 20


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `tensors.json`: {tensor: sha256 of its bytes} of `model.gguf`. No params."""
    with gguf.read(inputs["model.gguf"].path) as file:
        total = sum(info.nbytes for info in file.tensors.values())
        done = 0

        def digest(info: gguf.TensorInfo) -> str:
            nonlocal done
            found, data = hashlib.sha256(), file.data(info)
            for at in range(0, info.nbytes, CHUNK):
                found.update(data[at : at + CHUNK].data)
            done += info.nbytes
            context.progress(done, total)
            return found.hexdigest()

        with ThreadPoolExecutor(context.threads) as pool:
            digests = dict(zip(file.tensors, pool.map(digest, file.tensors.values()), strict=True))
    (out / "tensors.json").write_text(json.dumps(digests, indent=0, sort_keys=True) + "\n", encoding="utf-8")
