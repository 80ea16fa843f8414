"""The page's table of architectures is the records'; run as a program it writes it anew."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from architecture_helpers.dense_models import DENSE_MODELS
from architecture_helpers.hybrid_models import RUN_MODELS
from architecture_helpers.mixture_models import NAMES as MIXTURES
from convert_golden.classes.registry import CHECKPOINTS
from forward_models import MODELS, VOCABULARY, metadata
from quantmill.architectures.description import describe
from quantmill.architectures.hyperparameters import Hyper, hyper
from quantmill.architectures.known import ARCHITECTURES, CLASSES, architecture
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


def test_the_index_is_the_records() -> None:
    """A record is read when it is asked for: its name and classes, which stand in the index, are its own."""
    named: dict[str, list[str]] = {}
    for name, known in ARCHITECTURES.items():
        assert known.name == name
        for of in known.classes:
            if name not in named.setdefault(of.name, []):
                named[of.name].append(name)
    assert named == CLASSES


def test_one_record_is_read_alone() -> None:
    asked = 'from quantmill.architectures.known import class_of; class_of({"architectures": ["Qwen2ForCausalLM"]})'
    shown = '; import sys; print(*(name for name in sys.modules if name.startswith("quantmill.architectures.models.")))'
    run = subprocess.run([sys.executable, "-c", asked + shown], check=True, capture_output=True, text=True)
    read = {name.rpartition(".")[2] for name in run.stdout.split()}
    assert "qwen2" in read
    assert not read & {"llama", "gemma4", "deepseek2"}


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
