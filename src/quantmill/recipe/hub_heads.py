"""What the weights of a base on the Hub hold, by their headers alone: known before anything large is fetched."""

import struct
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from quantmill.checkpoint.safetensors import MAX_HEADER
from quantmill.network.hub import HTTP_LIMIT, HubFile, cached, fetch_head, named

FIRST = 1 << 17  # bytes, of which most headers need no more
AT_ONCE = 8  # files: the largest models have hundreds


def fetch_heads(
    repo: str, commit: str, names: Iterable[str], listed: Mapping[str, HubFile], folder: Path
) -> dict[str, Path]:
    """For each safetensors file one of that name: its beginning up to the end of the header, in `folder`; all of it
    where the Hub's cache has it. HubError when the Hub does not give them. Files that plain HTTP does not bring are
    left out."""

    def head(name: str) -> tuple[str, Path]:
        if (whole := cached(repo, name, commit)) and whole.stat().st_size == listed[name].size:
            return name, whole
        data = fetch_head(repo, name, commit, min(FIRST, listed[name].size))
        end = 8 + struct.unpack("<Q", data[:8].ljust(8, b"\0"))[0]
        if len(data) < end <= min(listed[name].size, 8 + MAX_HEADER):
            data = fetch_head(repo, name, commit, end)
        (folder / name).write_bytes(data[:end])
        return name, folder / name

    with named(repo, commit), ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(pool.map(head, [name for name in names if listed[name].size <= HTTP_LIMIT]))
