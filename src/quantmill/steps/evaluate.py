"""evaluate: the base's predictions of the evaluation text, which every file of the matrix is compared with."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context
from quantmill.model.chunks import Text, check_vocabulary, read_text, tokenize
from quantmill.model.engine import Run, evaluate, open_model
from quantmill.model.tokenizer import load
from quantmill.quality.errors import QualityError
from quantmill.quality.overlap import shared_passage
from quantmill.quality.stored import save

WORK = ".work"  # below the output folder while the step runs


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write what quality.stored says: states, tokens, and the base's perplexity.

    `inputs`: `model.gguf`, `texts/<name>` with the evaluation text as `params["text"]`, [input, what reports call it],
    and the calibration texts as `seen/<name>`, with which it must share no passage. `arithmetic`, `n_ctx` and
    `chunks` decide the bytes; `memory`, in bytes, does not.
    """
    input_, name = params["text"]
    text = read_text(inputs[f"texts/{input_}"].path, name)
    for seen, artifact in inputs.items():
        if seen.startswith("seen/"):
            shared = shared_passage(text, artifact.path.read_text(encoding="utf-8", errors="replace"))
            if shared is not None:
                raise QualityError(
                    f"{name}: shares {json.dumps(shared[:60], ensure_ascii=False)} with the calibration text "
                    f"{seen.partition('/')[2]}; measure with a text that the importance matrix has not seen"
                )
    model = inputs["model.gguf"].path
    work = out / WORK
    work.mkdir(exist_ok=True)
    how = Run(params["arithmetic"], context.threads, params.get("memory") or Run.memory, work, context.progress)
    tokenizer = load(model)
    with open_model(model) as opened:
        check_vocabulary(tokenizer, opened.described("token_embd.weight")[0][1], "the base")
        tokens = tokenize([Text(name, text)], tokenizer, params["n_ctx"], count=params.get("chunks"))
        with evaluate(opened, tokens, how) as hidden:
            facts = {"text": name, "chunks": len(tokens), "n_ctx": params["n_ctx"], "arithmetic": how.arithmetic}
            save(hidden, tokens, facts, out)
    shutil.rmtree(work)
