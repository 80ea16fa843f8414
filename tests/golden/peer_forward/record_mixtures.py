"""Record what llama-imatrix makes of the small models of architecture_helpers/mixture_models.py.

    PYTHONPATH=src:tests/helpers:tests/golden python tests/golden/peer_forward/record_mixtures.py LLAMA_IMATRIX

Writes mixtures.json: {model: {tensor: [[counts], columns in all, {column: sum of squares}]}}. Keys and values of
attention are kept in float32. Recorded with the llama.cpp of llama-cpp-python 0.3.36 (b11312).
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from architecture_helpers.mixture_models import LENGTH, NAMES, TEXT, write
from quantmill.imatrix import gguf_form

KEPT = 4  # columns of each entry, at least


def record(binary: str, folder: Path, name: str) -> dict[str, Any]:
    model = write(name, folder)
    (folder / "text").write_text(TEXT)
    command = [binary, "-m", str(model), "-f", "text", "-o", "imatrix.gguf", "-c", str(LENGTH)]
    command += ["-b", str(LENGTH), "-ub", str(LENGTH), "-ctk", "f32", "-ctv", "f32", "-t", "1", "-fa", "off"]
    subprocess.run(command, cwd=folder, capture_output=True, check=True)
    entries = {}
    for tensor, (sums, counts) in sorted(gguf_form.load(folder / "imatrix.gguf").tensors.items()):
        flat = sums.reshape(-1)
        kept = {str(column): float(f"{flat[column]:.8g}") for column in range(0, flat.size, max(1, flat.size // KEPT))}
        entries[tensor] = [[int(count) for count in counts.reshape(-1)], flat.size, kept]
    return entries


if __name__ == "__main__":
    values = {}
    for name in NAMES:
        with tempfile.TemporaryDirectory() as temporary:
            values[name] = record(sys.argv[1], Path(temporary), name)
    out = Path(__file__).parent / "mixtures.json"
    out.write_text("{\n" + ",\n".join(f'"{name}": {json.dumps(value)}' for name, value in values.items()) + "\n}\n")
