"""quality: how far one file of the matrix is from the base, on the evaluation text and by tensor."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context
from quantmill.engine.evaluation import Run
from quantmill.quality.measurement import against_stored
from quantmill.steps.evaluate import WORK


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `quality.json`: divergence.Divergence, `bits` a weight, and `tensors`, the errors by tensor.

    `inputs`: `model.gguf`, `base.gguf`, and the evaluate step's `states.npy` and `tokens.npy`. `arithmetic` decides the
    bytes; `place` is what errors call the file, `memory`, in bytes, what may be used.
    """
    work = out / WORK
    work.mkdir(exist_ok=True)
    how = Run(params["arithmetic"], context.threads, params.get("memory") or Run.memory, work, context.progress)
    files = {name: artifact.path for name, artifact in inputs.items()}
    found = against_stored(
        files["base.gguf"], files["states.npy"], files["tokens.npy"], files["model.gguf"], how, params["place"]
    )
    shutil.rmtree(work)
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (out / "quality.json").write_text(text + "\n", encoding="utf-8")
