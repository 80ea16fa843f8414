"""What shells complete by the scripts of `quantmill completion`, in the shells, and the examples of the help."""

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quantmill.cli import COMMANDS, EXAMPLES, parser

BASH = """
source {script}
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
_shtab_quantmill
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
CASES = [
    ("quantmill quant", {"quantize"}),
    ("quantmill build ti", {"tiny"}),
    ("quantmill build tiny --only Q5_K", {"Q5_K_S", "Q5_K_M", "Q5_K_L", "Q5_K"}),
    ("quantmill quantize mod", {"model.gguf"}),
    ("quantmill quantize model.gguf out IQ4", {"IQ4_NL", "IQ4_XS"}),
    ("quantmill quantize model.gguf out Q8_0 --pu", {"--pure"}),
    ("quantmill cache ve", {"verify"}),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project, a model, and the three scripts."""
    (tmp_path / "recipes").mkdir()
    for name in ("tiny.toml", "tiny.lock", "other.toml"):
        (tmp_path / "recipes" / name).write_text("")
    (tmp_path / "model.gguf").write_text("")
    for shell in ("bash", "fish", "zsh"):
        script = subprocess.run(
            [sys.executable, "-m", "quantmill.cli", "completion", shell], capture_output=True, check=True, timeout=120
        ).stdout
        (tmp_path / f"script.{shell}").write_bytes(script)
    return tmp_path


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_a_shell_completes(folder: Path, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here")
    for line, expected in CASES:
        words = " ".join(map(shlex.quote, line.split()))
        script = folder / f"script.{shell}"
        asked = {
            "bash": BASH.format(script=script, words=words),
            "fish": f"source {script}; complete -C {shlex.quote(line)}",
        }
        ended = subprocess.run([program, "-c", asked[shell]], cwd=folder, capture_output=True, text=True, timeout=60)
        assert {found.split("\t")[0] for found in ended.stdout.split("\n") if found} == expected, line


def test_zsh_takes_its_script(folder: Path) -> None:
    if (zsh := shutil.which("zsh")) is None:
        pytest.skip("no zsh here")
    assert subprocess.run([zsh, "-n", folder / "script.zsh"], capture_output=True, timeout=60).stderr == b""
    assert "#compdef quantmill" in (folder / "script.zsh").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_has_an_example_that_the_command_takes(command: str) -> None:
    assert EXAMPLES.keys() == COMMANDS.keys()
    words = shlex.split(EXAMPLES[command])
    if ">" in words:
        words = words[: words.index(">")]
    assert words[:2] == ["quantmill", command]
    parser(words[1:]).parse_args(words[1:])
