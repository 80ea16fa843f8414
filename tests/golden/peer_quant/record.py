"""Record the sha256 of what llama-quantize makes of the synthetic bases beside this file.

    PYTHONPATH=tests/helpers:tests/golden python tests/golden/peer_quant/record.py PATH_TO_LLAMA_QUANTIZE

Writes digests.json: {model: {"TYPE FTYPE[ options][ +imatrix]": [sha256 of each file] or "fails"}}, TYPE the base's.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from peer_quant.synthetic import IMATRIX, MODELS, sha256, write_base, write_imatrix
from quantmill import gguf
from quantmill.reference.ftypes import FTYPES
from quantmill.reference.llama_cpp.b4867 import B4867

FTYPES_RECORDED = [name for name, ftype in B4867.ftypes.items() if ftype.base == name or ftype.embedding_and_output]
OPTIONS = [
    "--pure",
    "--leave-output-tensor",
    "--output-tensor-type f16 --token-embedding-type q5_1",
    "--tensor-type attn_v=q8_0 --tensor-type ffn_down=q5_0",
    "--override-kv x.new=int:-3 --override-kv x.yes=bool:false --override-kv x.pi=float:3.14",
    "--override-kv x.text=str:new --override-kv general.file_type=int:7",
    "--exclude-weights attn_v",
    "--include-weights ffn_",
    "--keep-split",
]


def calls() -> list[tuple[str, str, str, bool]]:
    """(type of the base, ftype, options, with an imatrix or not)"""
    found = [("F16", ftype, "", guided) for ftype in FTYPES_RECORDED for guided in (False, True)]
    found += [(type_, ftype, "", True) for type_ in ("F32", "BF16") for ftype in ("F16", "BF16", "F32", "Q4_K_M")]
    found += [("F16", ftype, options, True) for ftype in ("Q4_K_M", "COPY") for options in OPTIONS]
    found += [("Q8_0", ftype, options, False) for ftype in ("Q4_K_M", "COPY") for options in ("", "--allow-requantize")]
    found += [("split", ftype, options, True) for ftype in ("Q4_K_M", "COPY") for options in ("", "--keep-split")]
    return found


def run(binary: str, folder: Path, base: str, out: str, ftype: str, options: str, guided: bool) -> bool:
    """Whether llama-quantize succeeds, run in `folder` so that the imatrix has a name without a path."""
    large = (
        ["--token-embedding-type", "q8_0", "--output-tensor-type", "q8_0"] if FTYPES[ftype].embedding_and_output else []
    )
    guide = ["--imatrix", IMATRIX] if guided else []
    command = [binary, *large, *options.split(), *guide, base, out, FTYPES[ftype].base, "1"]
    return not subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode


def bases(binary: str, folder: Path, name: str) -> dict[str, str]:
    """The file names of a model's bases by type."""
    model = MODELS[name]
    for type_ in ("F32", "F16", "BF16"):
        write_base(folder / f"{type_}.gguf", model, type_)
    run(binary, folder, "F16.gguf", "Q8_0.gguf", "Q8_0", "", False)
    shards = gguf.split(folder / "F16.gguf", folder, "split", max_tensors=7)
    return {type_: f"{type_}.gguf" for type_ in ("F32", "F16", "BF16", "Q8_0")} | {"split": shards[0].name}


def main(binary: str) -> None:
    recorded: dict[str, dict[str, list[str] | str]] = {}
    for name in MODELS:
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            files = bases(binary, folder, name)
            write_imatrix(folder / IMATRIX, MODELS[name])
            recorded[name] = {}
            for type_, ftype, options, guided in calls():
                done = run(binary, folder, files[type_], "out.gguf", ftype, options, guided)
                outputs = sorted(folder.glob("out*.gguf"))
                key = " ".join(filter(None, [type_, ftype, options, "+imatrix" if guided else ""]))
                recorded[name][key] = [sha256(path) for path in outputs] if done else "fails"
                for path in outputs:
                    path.unlink()
        fails = sum(value == "fails" for value in recorded[name].values())
        print(name, len(recorded[name]), fails, "fail", flush=True)
    models = ",\n".join(
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in found.items())
        + "\n}"
        for name, found in recorded.items()
    )
    Path(__file__).with_name("digests.json").write_text(f"{{\n{models}\n}}\n")


if __name__ == "__main__":
    main(sys.argv[1])
