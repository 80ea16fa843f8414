"""What a recipe says of quality: the keys of [evaluation], the text that files are measured on, and of [verify], what
they must reach."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantmill.errors import Unfit
from quantmill.recipe.calibration_table import ARITHMETICS, MEMORY, TextSource, n_ctx_of, read_text
from quantmill.recipe.convert_table import OWN, tool_of
from quantmill.reference.reference import Reference
from quantmill.units import parse_size

KEYS: dict[str, str] = {
    "evaluation.text": "file",
    "evaluation.url": "address",
    "evaluation.sha256": "string",
    "evaluation.name": "string",
    "evaluation.n_ctx": "count",
    "evaluation.chunks": "count",
    "evaluation.arithmetic": "string",
    "evaluation.memory": "size",
    "evaluation.with": "string",
    "evaluation.args": "list",
    "verify.max_kld": "number",
    "verify.min_top1": "number",
    "verify.no_fallback": "boolean",
}
# Options of llama-perplexity that the recipe's own keys decide, or by which it would do something else.
TAKEN = (
    *("-m", "--model", "-f", "--file", "-bf", "--binary-file", "-p", "--prompt", "-c", "--ctx-size", "--chunks", "-t"),
    *("--threads", "--kl-divergence", "--kl-divergence-base", "--save-all-logits", "--ppl-stride", "--ppl-output-type"),
    *("--hellaswag", "--winogrande", "--multiple-choice", "-hf", "-hfr", "--hf-repo", "-mu", "--model-url"),
)


@dataclass(frozen=True)
class Evaluation:
    """What files are measured on, and how. `chunks` None: all of them; `memory` in bytes. `tool`: who computes it, as
    convert_table.tool; `args`: what its llama-perplexity is given."""

    text: TextSource
    n_ctx: int
    chunks: int | None
    arithmetic: str
    memory: int
    tool: str = OWN
    args: tuple[str, ...] = ()

    @property
    def least(self) -> int:
        """The tokens that the text must have."""
        return 2 * self.n_ctx


def evaluation(reference: Reference, get: Callable[[str], Any], folder: Path) -> Evaluation | None:
    """The [evaluation] of a recipe in `folder`, None when it has none. Raises Unfit."""
    table = get("evaluation")
    if table is None:
        return None
    n_ctx = n_ctx_of(reference, "evaluation", table)
    if table.get("chunks") == 0:
        raise Unfit("evaluation.chunks", "0 chunks measure nothing; leave it out for all")
    arithmetic = table.get("arithmetic", ARITHMETICS[0])
    if arithmetic not in ARITHMETICS:
        raise Unfit("evaluation.arithmetic", f"{arithmetic!r} is not one of {', '.join(ARITHMETICS)}")
    try:
        memory = parse_size(table.get("memory", MEMORY))
    except ValueError as error:
        raise Unfit("evaluation.memory", str(error)) from None
    made_by = tool_of(get, "evaluation", "llama-perplexity", ("arithmetic", "memory"), TAKEN)
    text, args = read_text("evaluation", table, folder), tuple(table.get("args", ()))
    return Evaluation(text, n_ctx, table.get("chunks"), arithmetic, memory, made_by, args)


def gates(get: Callable[[str], Any], measured: bool) -> Mapping[str, Any]:
    """What [verify] asks of every file, by key; `measured`: the recipe has an [evaluation]. Raises Unfit."""
    found = {
        key: value for key in ("max_kld", "min_top1", "no_fallback") if (value := get(f"verify.{key}")) is not None
    }
    for key in ("max_kld", "min_top1"):
        if key in found and not measured:
            raise Unfit(f"verify.{key}", "nothing is measured without a text; give one in [evaluation]")
    if not 0 <= found.get("min_top1", 0) <= 1:
        raise Unfit("verify.min_top1", f"{found['min_top1']} is no share; give a number from 0 to 1")
    if not 0 <= found.get("max_kld", 0) < float("inf"):
        raise Unfit("verify.max_kld", f"{found['max_kld']} is no divergence; give a positive number of nats")
    return found
