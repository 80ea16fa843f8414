"""Record which type llama-quantize gives to every tensor of the conformance set's shapes.

    PYTHONPATH=tests/helpers:tests/golden python tests/golden/peer_mix/record.py PATH_TO_LLAMA_QUANTIZE [MODEL ...]

With models named, only these are recorded anew. Writes types.json: for each model {"FTYPE[ options][ +imatrix]": number
of a mix, or the text "fails"}, and the list of distinct mixes, each {runs of types in layer order: roles}. Tensors that
are not quantized (one-dimensional ones, F32) are left out.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from peer_mix.runs import OPTION_FTYPES, OPTION_MODELS, OPTIONS, run_lengths
from quantmill import gguf
from quantmill.admission.shapes import MODELS, Model
from quantmill.imatrix import Entry, encode
from quantmill.reference.ftypes import FTYPES

HERE = Path(__file__).parent


def write(path: Path, model: Model) -> None:
    """The model as a GGUF file, its weights from a seeded generator."""
    facts, tensors = model
    random = np.random.default_rng(1)
    kvs = [gguf.kv(key, value) for key, value in facts.items()]
    with gguf.Writer(path, kvs, [(name, shape, type_) for name, shape, type_ in tensors]) as writer:
        for _, shape, type_ in tensors:
            values = random.standard_normal(int(np.prod(shape)))
            writer.append(values.astype(np.float16 if type_.name == "F16" else np.float32).tobytes())


def write_imatrix(path: Path, model: Model) -> None:
    """An importance vector for every matrix in a layer."""
    random = np.random.default_rng(2)
    entries = []
    for name, shape, _ in model[1]:
        if "blk." in name and len(shape) > 1:
            values = random.random(shape[0] * (shape[2] if len(shape) > 2 else 1)) + 0.1
            entries.append(Entry(name, 1, values.astype(np.float32)))
    path.write_bytes(encode(entries, b"text", 1))


def quantize(binary: str, options: list[str], base: Path, out: Path, ftype: str) -> dict[str, str] | None:
    """Roles and runs of types that llama-quantize chose, None when it fails."""
    found = FTYPES[ftype]
    large = ["--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0"] if found.embedding_and_output else []
    command = [binary, *large, *options, str(base), str(out), found.base, "1"]
    out.unlink(missing_ok=True)
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return None
    with gguf.read(out) as file:
        types = {name: info.type.name for name, info in file.tensors.items() if len(info.shape) > 1}
    return run_lengths({name: type_ for name, type_ in types.items() if type_ != "F32" or ftype == "F32"})


def main(binary: str, names: list[str]) -> None:
    mixes: list[dict[str, str]] = []
    recorded: dict[str, dict[str, int | str]] = {}
    if names:
        before = json.loads((HERE / "types.json").read_text())
        mixes, recorded = before["mixes"], before["models"]
    with tempfile.TemporaryDirectory() as folder:
        base, imatrix, out = Path(folder, "base.gguf"), Path(folder, "imatrix.dat"), Path(folder, "out.gguf")
        for name in names or MODELS:
            model = MODELS[name]
            write(base, model)
            write_imatrix(imatrix, model)
            calls: list[tuple[str, list[str]]] = [(ftype, []) for ftype in FTYPES if FTYPES[ftype].base == ftype]
            calls += [(ftype, []) for ftype in FTYPES if FTYPES[ftype].embedding_and_output]
            if name in OPTION_MODELS:
                calls += [(ftype, text.split()) for ftype in OPTION_FTYPES for text, _ in OPTIONS]
            results: dict[str, int | str] = {}
            for ftype, options in calls:
                for guided in (False, True):
                    more = ["--imatrix", str(imatrix)] if guided else []
                    mix = quantize(binary, [*options, *more], base, out, ftype)
                    key = " ".join([ftype, *options, *(["+imatrix"] if guided else [])])
                    if mix is None:
                        results[key] = "fails"
                        continue
                    if mix not in mixes:
                        mixes.append(mix)
                    results[key] = mixes.index(mix)
            recorded[name] = results
            print(name, len(results), sum(value == "fails" for value in results.values()), "fail", flush=True)
    lines = ",\n".join(f"  {json.dumps(mix)}" for mix in mixes)
    models = ",\n".join(f"  {json.dumps(name)}: {json.dumps(results)}" for name, results in sorted(recorded.items()))
    (HERE / "types.json").write_text(f'{{"models": {{\n{models}\n}},\n"mixes": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
