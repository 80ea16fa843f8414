"""evaluate: the base's predictions of the evaluation text, which every file of the matrix is compared with."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context
from quantmill.engine.chunks import Text, check_vocabulary, read_text, tokenize
from quantmill.engine.evaluation import Run, evaluate, open_model
from quantmill.quality.base_predictions import save
from quantmill.vocabulary.tokenizer import load

WORK = ".work"  # below the output folder while the step runs


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write what quality.stored says: states, tokens, and the base's perplexity.

    `inputs`: `model.gguf`, and `texts/<name>` with the evaluation text as `params["text"]`, [input, what reports call
    it]. `arithmetic`, `n_ctx` and `chunks` decide the bytes; `memory`, in bytes, does not.
    """
    input_, name = params["text"]
    text = read_text(inputs[f"texts/{input_}"].path, name)
    model = inputs["model.gguf"].path
    work = out / WORK
    work.mkdir(exist_ok=True)
    how = Run(params["arithmetic"], context.threads, params.get("memory") or Run.memory, work, context.progress)
    tokenizer = load(model)
    with open_model(model, "the base") as opened:
        check_vocabulary(tokenizer, opened.described("token_embd.weight")[0][1], "the base")
        tokens = tokenize([Text(name, text)], tokenizer, params["n_ctx"], count=params.get("chunks"))
        with evaluate(opened, tokens, how) as hidden:
            facts = {"text": name, "chunks": len(tokens), "n_ctx": params["n_ctx"], "arithmetic": how.arithmetic}
            save(hidden, tokens, facts, out)
    shutil.rmtree(work)
