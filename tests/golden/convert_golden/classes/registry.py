"""Every class's checkpoint, by the name of the folder that it is written into."""

from importlib import import_module
from pathlib import Path

from convert_golden.classes.checkpoint import Checkpoint

_FOLDER = Path(__file__).parent
_FILES = [path for kind in ("dense", "mixtures", "hybrids") for path in sorted((_FOLDER / kind).glob("*.py"))]
_FOUND = [
    value
    for path in _FILES
    for value in vars(import_module(f"convert_golden.classes.{path.parent.name}.{path.stem}")).values()
    if isinstance(value, Checkpoint)
]
CHECKPOINTS = {checkpoint.name: checkpoint for checkpoint in _FOUND}
TYPES = ("BF16", "F16", "F32", "AUTO")
TAG = "b11312"
