"""Record what llama-imatrix makes of the small models of forward_models.py.

    PYTHONPATH=tests/helpers:tests/golden python tests/golden/peer_forward/record.py PATH_TO_LLAMA_IMATRIX

Writes values.json: {model: {"perplexity": [value, error], "entries": {tensor: [calls, columns, {column: value}]}}},
the values as the tool stores them. Keys and values of attention are kept in float32, where the tool would by itself
round them to float16 and be no measure of anything below 1e-3. Recorded with the llama.cpp of
llama-cpp-python 0.3.9 (b5490).
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from forward_models import LENGTH, MODELS, text, write
from quantmill import imatrix

KEPT = 12  # columns of each entry


def record(binary: str, folder: Path, name: str) -> dict[str, Any]:
    model = write(MODELS[name], folder / "model.gguf")
    (folder / "text").write_text(text())
    command = [binary, "-m", str(model), "-f", "text", "-o", "imatrix.dat", "-c", str(LENGTH), "--process-output"]
    command += ["-ctk", "f32", "-ctv", "f32", "-t", "1"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    found = re.search(r"PPL = (\S+) \+/- (\S+)", done.stdout + done.stderr)
    assert found is not None
    entries = {}
    for entry in sorted(imatrix.entries(folder / "imatrix.dat")[0], key=lambda entry: entry.name):
        step = max(1, entry.values.size // KEPT)
        values = {str(column): float(f"{entry.values[column]:.8g}") for column in range(0, entry.values.size, step)}
        entries[entry.name] = [entry.calls, entry.values.size, values]
    return {"perplexity": [float(found[1]), float(found[2])], "entries": entries}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        values = {name: record(sys.argv[1], Path(temporary), name) for name in MODELS}
    out = Path(__file__).parent / "values.json"
    out.write_text("{\n" + ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in values.items()) + "\n}\n")
