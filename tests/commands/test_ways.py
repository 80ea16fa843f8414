"""What helps is said in the words of whoever asked: a recipe's keys, or the options of the command that was called."""

import ast
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import forward_models
import quantmill
from projects import TINY
from quantmill import gguf
from quantmill.cli import main
from quantmill.errors import asked_by, way
from quantmill.imatrix import gguf_form
from quantmill.network.hub import NoSuchRepository, NoSuchRevision

PACKAGE = Path(quantmill.__file__ or "").parent
TABLES = "base|convert|calibration|imatrix|quants|verify|evaluation|bench|card|mmproj"
NAMED = re.compile(rf"\[({TABLES})\]|base\.re[pv]|--[a-z]")
# Rooms whose errors only recipes raise, or only the commands that have the options which they name.
OF_ONE = {
    *("recipe", "build", "forecast", "distributed", "steps", "commands", "release", "choose", "audit", "mix_search"),
    *("toolchain", "admission", "reference", "card", "cli.py"),
}
RECIPE = 'llama_cpp = "b11739"\n[base]\n{}\n[quants]\nmatrix = ["Q8_0", "Q4_0"]\n'


def said(capsys: pytest.CaptureFixture[str], call: str, code: int) -> str:
    with pytest.raises(SystemExit) as ended:
        main(call.split())
    shown = capsys.readouterr()
    assert ended.value.code == code, shown
    return shown.err + shown.out


def make(here: Path) -> None:
    """A model whose pattern has no name, one with a page that cannot be read, one of GGUF files, one in GGUF."""
    for name in ("pattern", "page", "ggufs"):
        shutil.copytree(TINY, here / name)
    tokenizer = json.loads((here / "pattern" / "tokenizer.json").read_text())
    tokenizer["pre_tokenizer"] = {"type": "Split", "pattern": {"Regex": "nobody knows"}, "behavior": "Isolated"}
    (here / "pattern" / "tokenizer.json").write_text(json.dumps(tokenizer))
    (here / "page" / "README.md").write_text("---\na: [\n---\n")
    (here / "ggufs" / "model.safetensors").rename(here / "ggufs" / "x.gguf")
    model = forward_models.write(forward_models.MODELS["qwen2"], here / "m.gguf")
    with gguf.read(model) as file:
        sums = {info.name: info.shape[0] for info in file.tensors.values() if len(info.shape) == 2}
    zeros = {name: (np.zeros((1, size), np.float32), np.ones(1, np.float32)) for name, size in sums.items()}
    gguf_form.write(here / "i.gguf", gguf_form.ImatrixFile(zeros, (b"text",), 1, 8))
    (here / "text").write_text("a text of some words. " * 100)
    (here / "recipes").mkdir()
    for name in ("pattern", "page", "ggufs"):
        (here / "recipes" / f"{name}.toml").write_text(RECIPE.format(f'path = "../{name}"\nname = "M"'))
    (here / "recipes" / "matrix.toml").write_text(RECIPE.format('gguf = "../i.gguf"'))


CALLS = (
    ("plan pattern", 2, "name it by `[base] pre_tokenizer` in the recipe\n"),
    ("convert pattern out.gguf", 2, "name it by --pre-tokenizer\n"),
    ("init new --base pattern", 2, "name it by --pre-tokenizer\n"),
    ("lock page", 1, "leave the file out by `[base] readme = false`\n"),
    ("convert page out.gguf", 1, "leave the file out by --no-readme\n"),
    ("plan ggufs", 2, "name one of them by `[base] gguf`\n"),
    ("convert ggufs out.gguf", 2, "name one of them\n"),
    ("plan matrix", 2, "give it as one (`[imatrix] file`) and name a model"),
    ("quantize i.gguf out.gguf Q8_0", 2, "give it as one (--imatrix) and name a model"),
    ("init new --base i.gguf", 2, "give it as one (--imatrix) and name a model"),
    ("bench i.gguf", 2, "give it as one and name a model"),
    ("generate i.gguf -p a --raw", 2, "give it as one and name a model"),
    ("imatrix i.gguf -f text -o out.gguf", 2, "give it as one and name a model"),
    ("perplexity i.gguf -f text", 2, "give it as one and name a model"),
    ("fit i.gguf out.gguf --bits 4 --imatrix i.gguf -f text", 2, "give it as one (--imatrix) and name a model"),
)


def test_each_is_told_what_it_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    monkeypatch.chdir(tmp_path)
    answers = {call: said(capsys, call, code) for call, code, _ in CALLS}
    assert {call: answers[call] for call, _, named in CALLS if named not in answers[call]} == {}


def test_errors_of_the_hub_name_what_was_written() -> None:
    assert "check base.repo, or" in str(NoSuchRepository("a/b", "main"))
    assert "check base.revision" in str(NoSuchRevision("a/b", "x", []))
    with asked_by(["--base"]):
        assert "check its name, or" in str(NoSuchRepository("a/b", "main"))
        assert way("key", "--base", "else") == "--base"
        assert way("key", "--other", "else") == "else"
    assert way("key", "--base") == "key"


# Of programs that are not ours, of the one command that calls, and of what only recipes reach.
ALONE = {
    "gguf/kinds.py": 3,
    "engine/suitability.py": 3,
    "quant/findings.py": 5,
    "quant/quantizer.py": 2,
    "quality/audit_page.py": 2,
    "runtime/generator.py": 1,
    "runtime/runners.py": 1,
    "store/remote/registry.py": 1,
    "store/remote/signature.py": 1,
}


def test_rooms_that_both_use_name_neither() -> None:
    """A text that names a key or an option is one of `way`'s, or was looked at and counted here."""
    found: dict[str, int] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] in OF_ONE:
            continue
        tree = ast.parse(path.read_text())
        spoken: set[int] = set()
        for node in ast.walk(tree):
            is_way = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "way"
            is_prose = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            spoken |= {id(part) for part in ast.walk(node)} if is_way or is_prose else set()
        texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in spoken]
        count = sum(isinstance(node.value, str) and NAMED.search(node.value) is not None for node in texts)
        found |= {str(path.relative_to(PACKAGE)): count} if count else {}
    assert found == ALONE
