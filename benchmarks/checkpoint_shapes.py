"""Compare the golden checkpoints of classes with what transformers saves of each class.

    python benchmarks/checkpoint_shapes.py [NAME...]

Makes the class from the checkpoint's config.json, as BF16, saves it, and prints for each checkpoint whether the files
hold tensors of the same names, shapes and dtypes, else every one that differs. Runs by an interpreter that has torch
and transformers, and takes those checkpoints whose shapes are of its version of transformers; others are named. What a
release keeps in F32 and transformers does not is no difference. Exit code 1 when anything differs.
"""

import json
import struct
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "golden"))

from convert_golden.classes.checkpoint import Checkpoint
from convert_golden.classes.registry import CHECKPOINTS

Specs = dict[str, tuple[tuple[int, ...], str]]


def saved(checkpoint: Checkpoint, folder: Path) -> Specs:
    """The tensors that transformers saves: as F32 first, since a dtype that a class insists on shows in loading."""
    import torch
    import transformers

    class_ = getattr(transformers, checkpoint.class_)
    facts = json.loads(json.dumps(checkpoint.config))
    config = transformers.AutoConfig.for_model(facts.pop("model_type"), **facts)
    config.dtype = torch.float32
    class_(config).float().save_pretrained(folder / "f32")
    class_.from_pretrained(folder / "f32", dtype=torch.bfloat16).save_pretrained(folder / "bf16")
    found: Specs = {}
    for path in (folder / "bf16").glob("*.safetensors"):
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + struct.unpack_from("<Q", data)[0]])
        found |= {name: (tuple(fact["shape"]), fact["dtype"]) for name, fact in header.items() if name[0] != "_"}
    return found


def differences(ours: Specs, theirs: Specs) -> list[str]:
    found = [f"{name}: only ours" for name in ours if name not in theirs]
    for name, (shape, dtype) in theirs.items():
        if name not in ours:
            found.append(f"{name}: only theirs, {shape}")
        elif ours[name] not in ((shape, dtype), (shape, "F32")):
            found.append(f"{name}: {ours[name]}, not {shape}, {dtype}")
    return found


def main() -> int:
    import transformers

    failed = False
    version = f"transformers {transformers.__version__}"
    for name in sys.argv[1:] or CHECKPOINTS:
        checkpoint = CHECKPOINTS[name]
        if checkpoint.made_by != version:
            print(f"{name}: by {checkpoint.made_by}")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            found = differences(checkpoint.saved(), saved(checkpoint, Path(scratch)))
        failed = failed or bool(found)
        print(f"{name}: {'different' if found else 'the same'}", *found, sep="\n  ", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
