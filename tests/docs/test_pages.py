"""The pages: the site is built of them, their command lines are ones that the program takes, and docs/options.md is
every command's help. Run as a program it writes that page anew."""

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from quantmill.cli import COMMANDS, EXAMPLES, parser

ROOT = Path(__file__).parents[2]
OPTIONS = ROOT / "docs" / "options.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "recipes" / "README.md"]
HEAD = """# Options

Every command's help, as `quantmill COMMAND --help` prints it; [commands.md](commands.md) tells what they do.
"""


def options_page() -> str:
    """The page of all helps, 100 columns wide."""
    with mock.patch.dict("os.environ", {"COLUMNS": "100", "NO_COLOR": "1"}):
        grammar = parser(tuple(COMMANDS))
        return "\n".join([HEAD, *(f"## `{name}`\n\n```text\n{text}```\n" for name, text in helps(grammar))])


def helps(grammar: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    """Each command's name and help; of one with actions, theirs too."""
    (commands,) = (action for action in grammar._actions if isinstance(action, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        actions = [action for action in command._actions if isinstance(action, argparse._SubParsersAction)]
        below = [found.format_help() for action in actions for found in action.choices.values()]
        yield name, "\n".join([command.format_help(), *below])


def command_lines(page: Path) -> Iterator[str]:
    """The calls of quantmill in a page's blocks of shell, continued lines in one."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.M | re.S):
        if language not in ("", "sh", "console", "text"):
            continue
        for line in block.replace("\\\n", " ").splitlines():
            if match := re.match(r"\s*(?:\$ )?(?:\.venv/bin/)?(quantmill .*)", line):
                yield match[1]


LINES = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES if page != OPTIONS for line in command_lines(page)]


def test_command_lines_were_found() -> None:
    assert len(LINES) >= 10
    assert {line.split()[1] for _, line in LINES} >= {"plan", "build", "explain", "choose", "verify", "key"}


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_command_line_is_one_that_the_program_takes(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    ends = [place for place, word in enumerate(words) if word in ("|", ">", ">>", "&&")]
    words = words[1 : ends[0] if ends else None]
    parser(words).parse_args(words)


def test_the_page_of_options_is_every_help() -> None:
    if sys.version_info[:2] != (3, 11):
        pytest.skip("argparse lays helps out otherwise in later Pythons")
    assert OPTIONS.read_text() == options_page()
    assert EXAMPLES.keys() == COMMANDS.keys()


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    call = [sys.executable, str(ROOT / "docs" / "site" / "build.py"), str(tmp_path / "site")]
    ended = subprocess.run(call, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    assert "WARNING -" not in ended.stderr
    index = (tmp_path / "site" / "index.html").read_text()
    assert "docs/guide.html" in index
    assert "https://fonts" not in index, "a page asks no other host"


if __name__ == "__main__":
    OPTIONS.write_text(options_page())
