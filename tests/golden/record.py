"""Record what ggml writes: `python tests/golden/record.py B4234=PATH B6301=PATH ...`, each path a libggml-base.so.

Writes `inputs.npz`, if its newer arrays are not there yet, and `expected.json` (README.md says how it reads). A library
that needs symbols of another is given them by LD_PRELOAD.
"""

import hashlib
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parent
sys.path.insert(0, str(GOLDEN.parent / "helpers"))

import ggml_oracle  # noqa: E402  (found through the line above)
from quantmill import _kernels  # noqa: E402  (found through the line above)
from quantmill.gguf.types import TYPES  # noqa: E402  (found through the line above)
from quantmill.reference.arithmetic import QuantArithmetic  # noqa: E402  (found through the line above)

FIRST = {"MXFP4": QuantArithmetic.B6301} | dict.fromkeys(("NVFP4", "Q1_0", "Q2_0"), QuantArithmetic.B8356)
NEED_IMPORTANCE = ("IQ2_XXS", "IQ2_XS", "IQ1_S")
# What no fill of the stack shows, before b8229: levels of a fit that are no levels of a point lead behind the table of
# points, and a row keeps what the row before it left on the stack.
READ_ELSEWHERE = ("IQ2_XXS/near_zero/with_zeros", "IQ3_XXS/sparse/minute")
FILLS = (0, 1, 3, 255)  # of the stack: codes of the grids, and a negative shift


def newer_inputs() -> dict[str, np.ndarray]:
    """Rows of 512 weights that reach what the rows of 1024 do not."""
    random = np.random.default_rng(41)
    rows = {name: (random.standard_normal((4, 512)) * 0.02) for name in ("near_zero", "sparse", "halves", "huge")}
    rows["near_zero"] *= np.repeat(10.0 ** random.integers(-44, -4, (4, 32)), 16, axis=1)
    rows["sparse"][random.random((4, 512)) < 0.95] = 0
    rows["halves"][:, :256] *= 1e-9
    rows["halves"][1::2, 256:] = np.sign(rows["halves"][1::2, 256:]) * 0.01
    rows["huge"] *= 10.0 ** random.integers(5, 40, (4, 1))
    weights = {"mostly_zero": random.gamma(0.5, 1, 1024), "zero": np.zeros(1024)}
    weights["mostly_zero"][np.repeat(random.random(64) < 0.8, 16)] = 0
    found = {f"x/{name}": np.clip(values, -3e38, 3e38) for name, values in rows.items()}
    found |= {f"imatrix/{name}": values for name, values in weights.items()}
    return {name: values.astype(np.float32) for name, values in found.items()}


def asked(
    inputs: dict[str, np.ndarray], arithmetic: QuantArithmetic
) -> list[tuple[str, np.ndarray, np.ndarray | None]]:
    """The entries' keys, rows and importance vectors."""
    found = []
    for type_ in sorted(set(_kernels.quantize_types()) - {"F32", "F16", "BF16"}):
        if arithmetic < FIRST.get(type_, arithmetic):
            continue
        for case in sorted(name[2:] for name in inputs if name.startswith("x/")):
            x = inputs[f"x/{case}"]
            for imatrix in ("none", *sorted(name[8:] for name in inputs if name.startswith("imatrix/"))):
                if imatrix == "none" and type_ in NEED_IMPORTANCE:
                    continue
                weights = None if imatrix == "none" else inputs[f"imatrix/{imatrix}"][: x.shape[1]].copy()
                found.append((f"{type_}/{case}/{imatrix}", x, weights))
    return found


def own(name: str, key: str, x: np.ndarray, importance: np.ndarray | None) -> set[str]:
    """What the kernels write, if it is the same at every level."""
    found = set()
    for level in _kernels.isa_levels():
        _kernels.set_isa(level)
        type_ = key.split("/")[0]
        out = np.zeros(len(x) * TYPES[type_].row_bytes(x.shape[1]), np.uint8)
        _kernels.quantize(type_, x, out, importance, QuantArithmetic[name])
        found.add(hashlib.sha256(out).hexdigest()[:16])
    return found if len(found) == 1 else set()


def record(argument: str) -> tuple[str, dict[str, str]]:
    name, _, path = argument.partition("=")
    with np.load(GOLDEN / "inputs.npz") as archive:
        entries = asked(dict(archive), QuantArithmetic[name])
    jobs = [(key.split("/")[0], *of) for key, *of in entries]
    fills = FILLS if QuantArithmetic[name] < QuantArithmetic.B8229 else FILLS[:1]
    answers = zip(*(ggml_oracle.digests(jobs, Path(path), fill) for fill in fills), strict=True)
    found = {}
    for (key, *of), (first, *others) in zip(entries, answers, strict=True):
        unset = any(other != first for other in others) or (bool(others) and key in READ_ELSEWHERE)
        answer = "stops" if first is None else "unset" if unset else first.hex()[:16]
        found[key] = answer if answer not in ("stops", "unset") else " ".join((answer, *own(name, key, *of)))
    return name, found


def main() -> None:
    with np.load(GOLDEN / "inputs.npz") as archive:
        inputs = dict(archive)
    if missing := {name: values for name, values in newer_inputs().items() if name not in inputs}:
        inputs |= missing
        np.savez_compressed(GOLDEN / "inputs.npz", **inputs)
    expected: dict[str, dict[str, str]] = {}
    before: dict[str, str] = {}
    with ProcessPoolExecutor(6) as pool:
        for name, found in pool.map(record, sys.argv[1:]):
            expected[name] = {key: value for key, value in found.items() if before.get(key) != value}
            before = found
            print(name, len(found), "entries,", len(expected[name]), "recorded", flush=True)
    (GOLDEN / "expected.json").write_text(json.dumps(expected, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
