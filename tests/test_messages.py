"""A message is one line of a few hundred characters, whatever a file's author wrote."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from quantmill.architectures.checkpoint_tensors import tensors
from quantmill.architectures.errors import ModelError
from quantmill.errors import MOST, QuantmillError, sentence
from quantmill.recipe.recipe import load


@pytest.mark.parametrize("text", ["a" * 100_000, "\x1b" * 100_000, "\n" * 500, "\U0010ffff" * 10**6])
def test_a_long_message_keeps_its_beginning_and_its_end(text: str) -> None:
    message = str(QuantmillError(f"file.gguf: {text}; fetch it again"))
    assert len(message) <= MOST
    assert message.isprintable()
    assert message.startswith("file.gguf: ")
    assert message.endswith("; fetch it again")
    assert "…" in message


def test_a_message_of_ordinary_length_is_left_alone() -> None:
    assert str(QuantmillError("a" * MOST)) == "a" * MOST


def test_a_long_path_is_cut() -> None:
    message = sentence(OSError(errno.ENAMETOOLONG, "File name too long", "a" * 100_000))
    assert len(message) <= MOST
    assert message.endswith("File name too long; check the path, its rights and the room left")


def test_what_files_say_is_cut(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError,
        match=r"^config.json: the architecture 'a+….*, Gemma3ForConditionalGeneration, .* can, and .* makes$",
    ) as error:
        tensors({"architectures": ["a" * 100_000]})
    assert len(str(error.value)) <= MOST
    recipe = tmp_path / "r.toml"
    recipe.write_text(f'llama_cpp = "{"b" * 100_000}"\n')
    with pytest.raises(QuantmillError) as failure:
        load(recipe)
    assert len(str(failure.value)) <= MOST


NO_FILES_LEFT = """
import os, sys
from pathlib import Path
from types import SimpleNamespace
from quantmill import imatrix
from quantmill.commands.files.quantize import _lines
from quantmill.errors import sentence
from quantmill.recipe.texts import extra

path = Path(sys.argv[1])
recipe = SimpleNamespace(path=path, card=SimpleNamespace(extra=path))
calls = [lambda: imatrix.read(path), lambda: _lines(path), lambda: extra(recipe)]
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
said = []
for call in calls:
    try:
        call()
    except Exception as error:
        said.append(error)
for file in held:
    os.close(file)
print(*[isinstance(error, OSError) and sentence(error) for error in said], sep="\\n")
"""


def test_what_the_machine_lacks_is_no_error_of_use(tmp_path: Path) -> None:
    """Another call would have been spared nothing."""
    (tmp_path / "file").write_text("text")
    command = ["sh", "-c", 'ulimit -n 64 && exec "$@"', "sh", sys.executable, "-c", NO_FILES_LEFT, "file"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "file: Too many open files; check the path, its rights and the room left\n" * 3
