"""Do kernels built for another machine write the golden bytes, and read them as this machine's do?

python tests/golden/elsewhere.py [RUNNER ...] build/arm/quantize_rows        such as RUNNER = qemu-aarch64

The program comes from a CMake build with -DQUANTMILL_PYTHON=OFF (docs/kernels.md). Prints the entries that differ and
exits with 1 if any do.
"""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from quantmill import _kernels
from quantmill.gguf.types import TYPES
from quantmill.reference.arithmetic import QuantArithmetic

GOLDEN = Path(__file__).resolve().parent


def main(command: list[str]) -> int:
    recorded = json.loads((GOLDEN / "expected.json").read_text())
    jobs, wanted = [], []
    with np.load(GOLDEN / "inputs.npz") as inputs:
        for arithmetic in QuantArithmetic:
            for key, digest in recorded[arithmetic.name].items():
                type_, case, imatrix = key.split("/")
                x = inputs[f"x/{case}"]
                importance = b"" if imatrix == "none" else inputs[f"imatrix/{imatrix}"][: x.shape[1]].tobytes()
                head = f"{type_} {x.shape[0]} {x.shape[1]} {int(importance != b'')} {arithmetic.value}\n"
                jobs.append(head.encode() + x.tobytes() + importance)
                wanted.append((key, arithmetic, x.shape, digest))
    output = subprocess.run(command, input=b"".join(jobs), stdout=subprocess.PIPE, check=True).stdout
    at, wrong = 0, 0
    for key, arithmetic, shape, digest in wanted:
        type_ = key.split("/")[0]
        size = shape[0] * TYPES[type_].row_bytes(shape[1])
        packed = np.frombuffer(output, np.uint8, size, at)
        read = np.frombuffer(output, np.float32, shape[0] * shape[1], at + size).reshape(shape)
        at += size + read.nbytes
        here = np.zeros(shape, np.float32)
        _kernels.dequantize(type_, packed, here)
        if hashlib.sha256(packed).hexdigest()[:16] != digest.split()[-1] or not np.array_equal(
            here, read, equal_nan=True
        ):
            print(f"{key} of {arithmetic.name} differs")
            wrong += 1
    print(f"{len(wanted) - wrong} of {len(wanted)} entries are the same, {at} of {len(output)} bytes read")
    return 1 if wrong or at != len(output) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
