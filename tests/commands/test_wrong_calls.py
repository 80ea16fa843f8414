"""Calls that make no sense, over all commands: the right code, one sentence that names the thing, nothing written."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import forward_models
from forward_models import MODELS
from projects import RECIPE, TINY
from quantmill import gguf
from quantmill.cli import COMMANDS, main, parser
from wrong_calls import USE, WORK, Wrong, says_nothing
from wrong_calls.fits import fits
from wrong_calls.newer import RECIPES as WRONG_RECIPES
from wrong_calls.newer import newer


def files() -> Iterator[Wrong]:
    """What stands where a model, an imatrix, a text or a folder belongs."""
    models = [
        "quantize X out Q8_0",
        "imatrix X -f text -o out",
        "perplexity X -f text",
        "perplexity m.gguf -f text --base X",
        "bench X -p 1 -n 0",
        "generate X -p a --raw",
        "diff X m.gguf",
        "diff m.gguf X",
        "split X folder",
    ]
    for call in models:
        for name, code in (("none", USE), ("bytes", USE), ("empty", USE), ("text", USE), ("cut.gguf", WORK)):
            yield Wrong(call.replace("X", name), code, name)
    for call in (call for call in models if not call.startswith(("imatrix", "perplexity"))):  # a checkpoint is a folder
        yield Wrong(call.replace("X", "folder"), USE, "folder: this is a folder; give the path of a GGUF file")
        yield Wrong(call.replace("X", "other"), USE, "other: this is a folder; convert it first, or give the path of a")
    for name in ("bytes", "empty", "text", "cut.gguf"):
        yield Wrong(f"verify {name}", WORK, name)
    for name in ("none", "folder", "."):
        yield Wrong(f"verify {name}", USE, name)
    for call in ("quantize m.gguf out Q4_K_M --imatrix X", "imatrix --in-file X -o out"):
        for name in ("none", "folder", "bytes", "m.gguf"):
            yield Wrong(call.replace("X", name), USE, name)
    for call in ("imatrix m.gguf -f X -o out", "perplexity m.gguf -f X"):
        for name in ("none", "folder", "bytes", "empty", "short"):
            yield Wrong(call.replace("X", name), USE, name)
    for call in (
        *models,
        "verify X",
        "imatrix m.gguf -f X -o out",
        "quantize m.gguf out Q8_0 --imatrix X",
        "merge X out",
    ):
        for name in ("m.gguf/", "m.gguf/."):
            yield Wrong(call.replace("X", name), USE, "m.gguf")
    for name, said in (
        ("none", "none: there is no such folder"),
        ("m.gguf", "m.gguf: this is a file; give the folder of a model"),
        ("folder", "folder"),
        ("other", "other: config.json"),
    ):
        yield Wrong(f"convert {name} out", USE, said)
    for call in ("imatrix other -f text -o out", "perplexity other -f text", "perplexity m.gguf -f text --base other"):
        yield Wrong(call, USE, "other: config.json: the architecture 'OtherForCausalLM'")
    for name in ("none", "bytes", "m.gguf", "folder", "s-00001-of-00002.gguf"):
        yield Wrong(f"merge {name} out", WORK if name[0] == "s" else USE, name if name[0] != "s" else "s-00002")


def outputs() -> Iterator[Wrong]:
    for call in (
        "quantize m.gguf X Q8_0",
        "convert TINY X",
        "imatrix m.gguf -f text -o X",
        "imatrix --in-file i.dat -o X",
        "merge t-00001-of-00003.gguf X",
    ):
        for name in (".", "/", "folder", "text/out", "loop", "out/", "out/.", "folder/out/", "text/"):
            yield Wrong(call.replace("X", name), USE, name.removesuffix("/out"))
    for call in ("split m.gguf X", "card small -o X"):
        for name in ("text", "text/out"):
            yield Wrong(call.replace("X", name), USE, "text")
    yield Wrong("key new out/", USE, "out/: there is no such folder")
    yield Wrong("quantize m.gguf m.gguf Q8_0", USE, "m.gguf")
    yield Wrong("imatrix m.gguf -f text -o text", USE, "text")
    yield Wrong("merge t-00001-of-00003.gguf t-00002-of-00003.gguf", USE, "t-00002")
    yield Wrong("merge t-00001-of-00003.gguf text", USE, "text")
    yield Wrong("key new text", USE, "text")
    yield Wrong("key new text/key", USE, "text")
    yield Wrong("quantize m.gguf none/out Q8_0", USE, "none")
    yield Wrong("convert TINY none/out", USE, "none")
    yield Wrong("split m.gguf folder --prefix a/b", USE, "--prefix")
    yield Wrong("quantize m.gguf /dev/null Q8_0 --keep-split", USE, "/dev/null")


def numbers() -> Iterator[Wrong]:
    threads = {
        "quantize m.gguf out Q8_0 X": "NTHREADS",
        "quantize m.gguf out Q8_0 --threads X": "--threads",
        "imatrix m.gguf -f text -o out --threads X": "--threads",
        "perplexity m.gguf -f text --threads X": "--threads",
        "bench m.gguf -t X": "-t",
        "generate m.gguf -p a --threads X": "--threads",
        "build small --threads X": "--threads",
        "build small -n X": "-n",
        "build small --engine dask --workers X": "--workers",
        "plan small --simulate --threads X": "--threads",
        "plan small --simulate --workers X": "--workers",
        "reproduce none --threads X": "--threads",
        "reproduce none -n X": "-n",
    }
    for call, name in threads.items():
        for value in ("0", "-1", "x", "99999999", "1.5"):
            yield Wrong(call.replace("X", value), USE, name)
    others = {
        "imatrix m.gguf -f text -o out --chunks X": "--chunks",
        "imatrix m.gguf -f text -o out --n-ctx X": "--n-ctx",
        "perplexity m.gguf -f text --chunks X": "--chunks",
        "perplexity m.gguf -f text --n-ctx X": "--n-ctx",
        "bench m.gguf -r X": "-r",
        "generate m.gguf -p a -n X": "-n",
        "generate m.gguf -p a --context X": "--context",
        "choose small --context X": "--context",
        "plan small --simulate --times X": "--times",
        "split m.gguf folder --max-tensors X": "--max-tensors",
    }
    for call, name in others.items():
        for value in ("0", "-1", "x", "9" * 5000):
            yield Wrong(call.replace("X", value), USE, name)
    sizes = {
        "imatrix m.gguf -f text -o out --memory X": "--memory",
        "perplexity m.gguf -f text --memory X": "--memory",
        "split m.gguf folder --max-size X": "--max-size",
        "cache gc --dry-run --max-size X": "--max-size",
        "plan small --simulate --bandwidth X": "--bandwidth",
        "choose small --ram X": "--ram",
        "choose small --vram X": "memory of graphics cards",
    }
    for call, name in sizes.items():
        for value in ("x", "-1", "5XB"):
            yield Wrong(call.replace("X", value), USE, name)
    yield Wrong("imatrix m.gguf -f text -o out --from-chunk -1", USE, "--from-chunk")
    yield Wrong("imatrix m.gguf -f text -o out --from-chunk 999", USE, "text")
    yield Wrong("imatrix m.gguf -f text -o out --memory 0", USE, "memory")
    yield Wrong("bench m.gguf -p 0 -n 0", USE, "-p 0")
    yield Wrong("bench m.gguf -p 99999999999 -n 0", USE, "pp99999999999")
    yield Wrong("bench m.gguf -p 1,x", USE, "-p")
    for option, value in (("temperature", "-1"), ("top-p", "nan"), ("top-k", "-5"), ("seed", "-5"), ("top-p", "x")):
        yield Wrong(f"generate m.gguf -p a --raw --{option} {value}", USE, option)


def words() -> Iterator[Wrong]:
    """Values that an option does not know, options that do not go together."""
    yield from (
        Wrong("quantize m.gguf out Q9", USE, "Q9"),
        Wrong("quantize m.gguf out 99", USE, "99"),
        Wrong("quantize m.gguf out UD-Q4_K_XL", USE, "UD-Q4_K_XL"),
        Wrong("quantize m.gguf out Q8_0 --llama-cpp b9999", USE, "b9999"),
        Wrong("quantize m.gguf out Q8_0 --tensor-type attn_q", USE, "--tensor-type"),
        Wrong("quantize m.gguf out Q8_0 --tensor-type attn_q=Q9", USE, "Q9"),
        Wrong("quantize m.gguf out Q8_0 --tensor-type attn_q(=Q8_0", USE, "attn_q("),
        Wrong("quantize m.gguf out Q8_0 --output-tensor-type Q9", USE, "Q9"),
        Wrong("quantize m.gguf out Q8_0 --token-embedding-type Q9", USE, "Q9"),
        Wrong("quantize m.gguf out Q8_0 --override-kv a", USE, "is not an override"),
        Wrong("quantize m.gguf out Q8_0 --override-kv a=int:x", USE, "a=int:x"),
        Wrong("quantize m.gguf out Q8_0 --override-kv a=none:1", USE, "a=none:1"),
        Wrong("quantize m.gguf out Q8_0 --imatrix i.dat --include-weights a --exclude-weights b", USE, "weights"),
        Wrong("quantize m.gguf out IQ2_XXS --llama-cpp b5490", USE, "imatrix"),
        Wrong("quantize q.gguf out Q4_0", USE, "requantiz"),
        Wrong("imatrix m.gguf -f text -o out --arithmetic f64", USE, "--arithmetic"),
        Wrong("imatrix m.gguf -f text -o out --output-format onnx", USE, "--output-format"),
        Wrong("imatrix m.gguf", USE, "-f"),
        Wrong("imatrix -f text", USE, "model"),
        Wrong("imatrix --show-statistics", USE, "--show-statistics"),
        Wrong("perplexity m.gguf -f text --arithmetic f64", USE, "--arithmetic"),
        Wrong("bench m.gguf --runtime vllm", USE, "--runtime"),
        Wrong("bench m.gguf --runtime llama.cpp", USE, "llama-bench"),
        Wrong("bench m.gguf --runtime llama.cpp --no-repack", USE, "--no-repack"),
        Wrong("bench m.gguf --activation-bits 4", USE, "--activation-bits"),
        Wrong("generate m.gguf -p a", USE, "--raw"),
        Wrong("generate m.gguf", USE, "-p"),
        Wrong("convert TINY out --type Q8_0", USE, "--type"),
        Wrong("convert TINY out --pre-tokenizer nmae", USE, "'nmae' is no pre-tokenizer"),
        Wrong("convert TINY out --pre-tokenizer qwne2", USE, "did you mean qwen2?"),
        Wrong("choose small --backend tpu", USE, "tpu"),
        Wrong("choose small --goal cheap", USE, "--goal"),
        Wrong("choose folder", USE, "folder"),
        Wrong("build small --engine ray", USE, "--engine"),
        Wrong("build small --scheduler tcp://x", USE, "--scheduler"),
        Wrong("build small --workers 2", USE, "--workers"),
        Wrong("build small --only Q9", USE, "Q9"),
        Wrong("build small --locked", USE, "lock"),
        Wrong("build small --engine dask --insecure", USE, "--insecure"),
        Wrong("plan small --workers 2", USE, "--workers"),
        Wrong("plan small small", USE, "2 are named"),
        Wrong("explain nonsense", USE, "nonsense"),
        Wrong("explain quant:small/Q9", USE, "quant:small/Q9"),
        Wrong("explain quant:none/Q8_0", USE, "none"),
        Wrong("cache gc --dry-run --keep all", USE, "--keep"),
        Wrong("cache none", USE, "none"),
        Wrong("cache push", USE, "quantmill.toml"),
        Wrong("cache sign", USE, "quantmill.toml"),
        Wrong("publish small", USE, "publish.owner"),
        Wrong("publish small --yes --dry-run", USE, "--yes"),
        Wrong("reproduce none", USE, "none"),
        Wrong("reproduce folder", USE, "folder"),
        Wrong("reproduce folder --against folder", USE, "--against"),
        Wrong("verify m.gguf --key ed25519:x", USE, "--key"),
        Wrong("verify folder --key none", USE, "--key"),
        Wrong("key old text", USE, "old"),
        Wrong("none", USE, "none"),
        Wrong("-C none plan small", USE, "none"),
        Wrong("", USE, "COMMAND"),
    )


def recipes() -> Iterator[Wrong]:
    for command in ("build", "plan", "card", "lock", "choose", "publish", "explain quant:small/Q8_0"):
        for name, named in (
            *((name, name) for name in ("none", "bytes", "key.toml", "text")),
            ("cut.gguf", "a model and no recipe"),
        ):
            yield Wrong(f"{command} {name}", USE, named)


def grammar() -> Iterator[Wrong]:
    for command in COMMANDS:
        if command != "doctor":  # it needs nothing
            yield Wrong(command, USE, "required" if command != "imatrix" else "nothing to do")
        yield Wrong(f"{command} --none", USE, "")


TABLE: Iterable[Wrong] = [
    *files(),
    *outputs(),
    *numbers(),
    *words(),
    *says_nothing(),
    *fits(),
    *newer(),
    *recipes(),
    *grammar(),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, and files of every kind beside it."""
    here = tmp_path_factory.mktemp("place")
    (here / "recipes").mkdir()
    (here / "recipes" / "small.toml").write_text(RECIPE)
    for name, text in WRONG_RECIPES.items():
        (here / "recipes" / f"{name}.toml").write_text(text)
    (here / "recipes" / "tiny").symlink_to(TINY)
    (here / "folder").mkdir()
    (here / "other").mkdir()
    (here / "other" / "config.json").write_text('{"architectures": ["OtherForCausalLM"]}')
    (here / "other" / "model.safetensors").write_bytes(b"")
    model = forward_models.write(MODELS["qwen2"], here / "m.gguf")
    (here / "cut.gguf").write_bytes(model.read_bytes()[:-5000])
    (here / "bytes").write_bytes(bytes(range(128, 256)) * 40)
    (here / "empty").write_bytes(b"")
    (here / "short").write_bytes(b"abc")
    (here / "text").write_text("one two three four five six seven eight nine ten " * 40)
    (here / "key.toml").write_text("nothing = 1\n")
    (here / "loop").symlink_to("loop")
    gguf.split(model, here, "t", max_tensors=10)
    gguf.split(model, here, "s", max_tensors=20)
    (here / "s-00002-of-00002.gguf").unlink()
    call(f"quantize {model} {here / 'q.gguf'} Q8_0")
    call(f"imatrix {model} -f {here / 'text'} -o {here / 'i.dat'} --n-ctx 64 --chunks 2")
    return here


WORDS = {"TINY": str(TINY), "EMPTY": "", "SPACES": "  ", "LINES": "a\nb"}


def call(line: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main([WORDS.get(word, word) for word in line.split()])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def tree(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


def test_there_are_three_hundred() -> None:
    assert len({wrong.call for wrong in TABLE}) >= 300
    assert {wrong.call.split()[0] for wrong in TABLE if wrong.call} >= COMMANDS.keys()


def test_every_option_that_takes_a_value_is_in_the_table() -> None:
    """Of every command, by its grammar."""
    used = {(wrong.call.split()[0], word.split("=")[0]) for wrong in TABLE for word in wrong.call.split()[1:]}
    for command in COMMANDS:
        (commands,) = (
            action for action in parser([command])._actions if action.dest == argparse.SUPPRESS and action.choices
        )
        asked = [commands.choices[command]]
        for found in asked:
            for action in found._actions:
                if isinstance(action, argparse._SubParsersAction):
                    asked += action.choices.values()
                elif action.option_strings and action.nargs != 0:
                    assert any((command, name) in used for name in action.option_strings), (command, action.dest)


@pytest.mark.parametrize("wrong", TABLE, ids=lambda wrong: wrong.call[:60])
def test_a_wrong_call(
    wrong: Wrong, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("PATH", "")
    before = tree(place)
    code = call(wrong.call)
    said = capsys.readouterr()
    lines = said.err.splitlines()
    sentence = lines[-1]
    if lines[0].startswith("usage: "):  # argparse shows the grammar first
        assert ": error: " in sentence
    elif not wrong.call.startswith(("imatrix", "reproduce", "toolchain")):  # these tell of their progress first
        assert len(lines) == 1
    assert (code, said.out) == (wrong.code, ""), sentence
    assert sentence.startswith("quantmill")
    assert wrong.named in sentence
    assert "Traceback" not in said.err
    assert tree(place) == before


@pytest.mark.parametrize("line", ["quantize X out Q8_0", "quantize m.gguf X Q8_0", "convert TINY X", "verify X"])
def test_an_empty_path(line: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["" if word == "X" else word for word in line.split()])
    assert (ended.value.code, capsys.readouterr().err) == (USE, "quantmill: '' is no path; give the path of a file\n")


@pytest.mark.parametrize(
    ("line", "code", "named"),
    [
        ("quantize m.gguf /dev/full Q8_0", WORK, "/dev/full"),
        ("quantize m.gguf folder Q8_0", USE, "folder"),
        ("quantize m.gguf out Q8_0 --threads 99999999", USE, "--threads"),
        ("bench none", USE, "none"),
        ("plan none", USE, "none"),
    ],
)
def test_a_process(line: str, code: int, named: str, place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quantmill.cli", *line.split()], cwd=place, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code
    assert named in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "line", ["verify m.gguf", "audit q.gguf --base m.gguf", "show m.gguf", "bench m.gguf -p 1 -n 0"]
)
def test_an_output_that_is_full_is_no_file_that_is_read(line: str, place: Path) -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "quantmill.cli", *line.split()]
        done = subprocess.run(command, cwd=place, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == WORK
    assert done.stderr == "quantmill: stdout: No space left on device; check the path, its rights and the room left\n"


@pytest.mark.parametrize("to", ["/dev/null", "link"])
def test_an_audit_is_written_to_a_device(to: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    if to == "link":
        (place / to).symlink_to("/dev/null")
    assert call(f"audit q.gguf --base m.gguf --json {to}") == 0
    assert Path("/dev/null").is_char_device()
    (place / "link").unlink(missing_ok=True)
    assert not [*Path("/dev").glob("null.*"), *place.glob("link.*")]


@pytest.mark.parametrize("line", ["quantize m.gguf out Q8_0", "generate m.gguf -p a --raw", "bench m.gguf"])
def test_a_level_of_instructions_that_is_none(line: str, place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "quantmill.cli", *line.split()],
        cwd=place,
        env={**os.environ, "QUANTMILL_ISA": "sparc"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == USE
    assert done.stderr.startswith("quantmill: QUANTMILL_ISA: this machine cannot run the kernels of level 'sparc'")
    assert len(done.stderr.splitlines()) == 1
