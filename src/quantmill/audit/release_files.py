"""The models in a folder: files, and shards as one."""

from pathlib import Path

from quantmill.errors import UsageError
from quantmill.gguf.errors import GGUFUsageError
from quantmill.gguf.kinds import check_kind
from quantmill.gguf.reader import read
from quantmill.gguf.shards import parse_name
from quantmill.gguf.values import model_facts
from quantmill.listing import IMATRIX_ENDING


def models_in(folder: Path) -> list[Path]:
    """Each model's file, of shards the first that is there. What calls itself an imatrix, a projector or an adapter is
    none. UsageError where there is no model."""
    found: dict[tuple[Path, str, int], Path] = {}
    for path in sorted(folder.rglob("*.gguf")):
        shard = parse_name(path.name)
        key = (path.parent, shard[0], shard[2]) if shard else (path.parent, path.name, 0)
        if key not in found and not path.name.endswith(IMATRIX_ENDING) and _is_model(path):
            found[key] = path
    if not found:
        raise UsageError(f"{folder}: there are no GGUF files of a model in it; name a folder that holds some")
    return list(found.values())


def _is_model(path: Path) -> bool:
    with read(path) as file:
        try:
            check_kind(file.place, model_facts(file.metadata.values()))
        except GGUFUsageError:
            return False
    return True
