"""`build --check`: a sample of what a step made is made again, elsewhere, and compared."""

import socket
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from quantmill.artifact import Context
from quantmill.build.graph import Node
from quantmill.build.node_key import Outputs, key_of
from quantmill.errors import QuantmillError, listed
from quantmill.steps.step import Sample


class Differs(QuantmillError):
    """Two computations of the same came out otherwise."""


def sample_of(share: float, node: Node, inputs: Outputs) -> Sample:
    """The sample of the node, which its step key chooses."""
    return Sample(share, key_of(node, inputs).digest())


def unlike(
    node: Node, inputs: Outputs, made: Mapping[str, Path], folder: Path, threads: int, sample: Sample
) -> list[str]:
    """What of a sample of the files that the node's step made comes out otherwise, made again in another thread, in a
    folder below `folder`."""
    if node.step.recheck is None:
        return []
    params: Mapping[str, Any] = {**node.params, **node.where}
    with tempfile.TemporaryDirectory(prefix="again-", dir=folder) as work, ThreadPoolExecutor(1) as other:
        return other.submit(
            node.step.recheck, inputs, params, made, Path(work), Context(threads), sample
        ).result()


def check(share: float, node: Node, inputs: Outputs, folder: Path, threads: int) -> None:
    """Differs where a sample of what the node's step left in `folder` comes out otherwise."""
    made = {path.name: path for path in folder.iterdir() if path.is_file()}
    if wrong := unlike(node, inputs, made, folder, threads, sample_of(share, node, inputs)):
        raise Differs(
            f"{listed(wrong)} came out otherwise when made again on this machine, {socket.gethostname()}: its memory or "
            "a core computes wrongly; test them before you build here"
        )
