"""A llama-quantize with one rule, one key or one block of its own is refused, and the sentence says which."""

import os
import sys
from pathlib import Path

import pytest

from quantmill.admission.admit import NotAdmitted, admit
from quantmill.admission.conformance import Call
from quantmill.admission.library import Tool
from quantmill.cli import main
from quantmill.reference.admissions import of_folder
from quantmill.reference.spans import of_tag

NEWEST = of_tag("v0.5.0")
ASKED = [
    Call("tiny", "Q4_K_M", guided=True, options="output and embedding"),
    Call("tiny", "Q5_0", guided=True, options="pattern and key"),
    Call("width-336", "Q4_K_L", guided=False),
    Call("width-336", "Q4_K_M", guided=False, options="prune"),
    Call("tiny", "IQ2_XXS", guided=False),
]

FIRST = "the first is tiny, Q4_K_M, with an imatrix, output and embedding"


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    program = tmp_path / "tools" / "llama-quantize"
    program.parent.mkdir()
    tool = Path(__file__).with_name("fake_quantize.py")
    there = os.pathsep.join(filter(None, sys.path))
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{there}" exec "{sys.executable}" "{tool}" "$@"\n')
    program.chmod(0o755)
    return program.parent


def refused(tools: Path) -> str:
    with pytest.raises(NotAdmitted) as error:
        admit("b12000", Tool(tools), [NEWEST], asked=lambda ftypes: ASKED)
    before, after = str(error.value).split(f"{NEWEST}, the nearest, ")
    assert before == "b12000 is not admitted: under the rules of "
    return after


def test_one_that_changes_nothing_is_admitted(tools: Path) -> None:
    found, unknown, _ = admit("b12000", Tool(tools), [NEWEST], asked=lambda ftypes: ASKED)
    assert (found.span, found.files, found.refused, unknown) == (NEWEST.first, 3, 2, ())


def test_one_that_aborts_calls_no_debugger(tmp_path: Path) -> None:
    program, out = tmp_path / "llama-quantize", tmp_path / "out"
    program.write_text(f'#!/bin/sh\nprintf "$GGML_NO_BACKTRACE" > "{out}"\nkill -ABRT $$\n')
    program.chmod(0o755)
    tool = Tool(tmp_path)
    assert not tool.answer(Call("tiny", "Q4_0", guided=False), tmp_path / "tiny.gguf", out)
    assert (tool.aborted, out.read_text()) == (True, "1")


def test_one_tensor_s_type(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANGE", "type")
    ours = ("Q4_K", "Q4_K", "Q6_K")
    tensors = [f"tensor blk.{layer}.ffn_down.weight: Q5_K and {type_}" for layer, type_ in enumerate(ours)]
    assert refused(tools) == f"1 of 5 files differ; {FIRST}: {'; '.join(tensors)}; and 1 more"


def test_one_key_of_the_header(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANGE", "key")
    assert refused(tools) == f"3 of 5 files differ; {FIRST}: metadata general.quantization_version: 3 and 2"


def test_one_byte_of_a_block(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHANGE", "block")
    block = "tensor blk.3.ffn_up.weight: Q4_K: block 1 of 2 is the first that differs, 1 in all"
    assert refused(tools) == f"2 of 5 files differ; {FIRST}: {block}"


def test_the_command_says_it_and_enters_nothing(
    tools: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CHANGE", "key")
    with pytest.raises(SystemExit) as ended:
        main(["admit", "b12000", "--tools", "tools", "--every", "4000"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        f"quantmill: b12000 is not admitted: under the rules of {NEWEST}, the nearest, 4 of 4 files differ; "
        "the first is tiny, F32: metadata general.quantization_version: 3 and 2\n"
    )
    assert of_folder(tmp_path) == ()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--share"], "no shared store is named: write its url into quantmill.toml, or set QUANTMILL_STORE"),
        (["--share", "--every", "9"], "--share is for what all files were compared of; leave out --every"),
        (["--to", "odd.json"], "odd.json: not a file of admissions; remove it and let quantmill admit write it anew"),
    ],
)
def test_what_cannot_be_entered_is_told_before_the_work(
    more: list[str],
    said: str,
    tools: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUANTMILL_STORE", raising=False)
    (tmp_path / "quantmill.toml").write_text("")
    (tmp_path / "odd.json").write_text("{}")
    (tools / "llama-quantize").write_text("#!/bin/sh\ntouch asked\nexit 1\n")
    with pytest.raises(SystemExit) as ended:
        main(["admit", "b12000", "--tools", "tools", *more])
    assert (ended.value.code, capsys.readouterr().err) == (2, f"quantmill: {said}\n")
