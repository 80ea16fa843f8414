"""Record what llama-imatrix makes of the small models of architecture_helpers: dense ones, and the hybrids.

    PYTHONPATH=tests/helpers:tests/golden python tests/golden/peer_forward/record_dense.py LLAMA_IMATRIX [NAME ...]

Writes dense.json and hybrid.json: {model: {"perplexity": value, "entries": {tensor: [rows, columns, {column: sum of
squares}]}}}. Keys
and values of attention are kept in float32. Recorded with the llama.cpp of llama-cpp-python 0.3.36 (b11312); gemma3n
and gemma4 with one whose ggml-cpu/vec.h does not define GGML_GELU_FP16, which makes GELU a table of float16 values:
what that rounds chooses other experts. With names, only those models are recorded anew.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from architecture_helpers.dense_models import DENSE_MODELS
from architecture_helpers.hybrid_models import HYBRID_MODELS
from forward_models import LENGTH, Small, text, write
from quantmill.imatrix import gguf_form

KEPT = 3  # columns of each entry, at least


def record(binary: str, folder: Path, small: Small) -> dict[str, Any]:
    model = write(small, folder / "model.gguf")
    (folder / "text").write_text(text())
    command = [binary, "-m", str(model), "-f", "text", "-o", "imatrix.gguf", "-c", str(LENGTH), "--process-output"]
    command += ["-ctk", "f32", "-ctv", "f32", "-t", "1", "-fa", "off"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    found = re.search(r"PPL = (\S+) \+/- (\S+)", done.stdout + done.stderr)
    assert found is not None
    entries = {}
    for tensor, (sums, counts) in sorted(gguf_form.load(folder / "imatrix.gguf").tensors.items()):
        flat = sums.reshape(-1)
        values = {
            str(column): float(f"{flat[column]:.8g}") for column in range(0, flat.size, max(1, flat.size // KEPT))
        }
        entries[tensor] = [int(counts.reshape(-1)[0]), flat.size, values]
    return {"perplexity": float(found[1]), "entries": entries}


if __name__ == "__main__":
    for file, models in (("dense.json", DENSE_MODELS), ("hybrid.json", HYBRID_MODELS)):
        path = Path(__file__).parent / file
        values = json.loads(path.read_text())
        for name in sys.argv[2:] or models:
            if name in models:
                with tempfile.TemporaryDirectory() as temporary:
                    values[name] = record(sys.argv[1], Path(temporary), models[name])
        lines = ",\n".join(f'"{name}": {json.dumps(values[name])}' for name in models)
        path.write_text("{\n" + lines + "\n}\n")
