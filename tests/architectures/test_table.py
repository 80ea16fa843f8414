"""The page's table of architectures is the records'; run as a program it writes it anew."""

from collections.abc import Iterator
from pathlib import Path

from architecture_helpers.dense_models import DENSE_MODELS
from architecture_helpers.hybrid_models import RUN_MODELS
from architecture_helpers.mixture_models import NAMES as MIXTURES
from convert_golden.classes.registry import CHECKPOINTS
from forward_models import MODELS, VOCABULARY, metadata
from quantmill.architectures.description import describe
from quantmill.architectures.hyperparameters import Hyper, hyper
from quantmill.architectures.known import ARCHITECTURES, architecture
from quantmill.runtime.layer_plan import CannotRun, layer_plan

PAGE = Path(__file__).parents[2] / "docs" / "new-architecture.md"
HEAD = "| architecture | convert | imatrix | quality | bench |"
OTHER = "llama.cpp's"
OTHERS = "| any other | llama.cpp's | llama.cpp's | no | llama.cpp's |"


def rows() -> Iterator[str]:
    yield HEAD
    yield "| --- | --- | --- | --- | --- |"
    for name, known in sorted(ARCHITECTURES.items()):
        convert = "ours" if known.classes else OTHER
        computed = ("ours", "ours") if known.is_computed else (OTHER, "no")
        yield f"| `{name}` | {convert} | {' | '.join(computed)} | {'ours' if runs(name) else OTHER} |"
    yield OTHERS


def runs(name: str) -> bool:
    """Whether our kernels run any small model of the architecture."""
    for facts in small_models(name):
        try:
            layer_plan(name, facts)
        except CannotRun:
            continue
        return True
    return False


def small_models(name: str) -> Iterator[Hyper]:
    """What is known of the small models of an architecture: those of the engine's tests, and golden checkpoints."""
    for small in (MODELS | DENSE_MODELS | RUN_MODELS).values():
        if small.architecture == name:
            yield hyper(name, {entry.key: entry for entry in metadata(small)}, VOCABULARY)
    for mixture in MIXTURES:
        config = CHECKPOINTS[mixture].config
        if architecture(config).name == name:
            entries, tensors = describe(config, "F32")
            rows = {tensor.name: tensor.shape for tensor in tensors}["token_embd.weight"][1]
            yield hyper(name, {entry.key: entry for entry in entries}, rows)


def written(page: str) -> str:
    """The page with the table of the records."""
    before, _, rest = page.partition(HEAD)
    return before + "\n".join(rows()) + rest.partition(OTHERS)[2]


def test_the_pages_table_is_the_records() -> None:
    page = PAGE.read_text()
    assert page.count(HEAD) == page.count(OTHERS) == 1
    assert page == written(page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
