"""One page a tag: what a template prints is the same in every process, or is not shown."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import chat_templates
from card_facts import made
from chat_templates import ALL, HOSTILE, USUAL
from quantmill.card.catalogue import words
from quantmill.card.page import render

HELPER = Path(chat_templates.__file__)
SOME = list(ALL)[::16]  # benchmarks/same_prompt.py tries all


def of_a_process(seed: int) -> dict[str, str]:
    done = subprocess.run(
        (sys.executable, str(HELPER), *SOME),
        env={**os.environ, "PYTHONHASHSEED": str(seed), "TZ": "Asia/Tokyo" if seed else "UTC"},
        capture_output=True,
        check=True,
        timeout=600,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_processes_make_the_same_prompts() -> None:
    with ThreadPoolExecutor() as pool:
        first, *others = pool.map(of_a_process, (0, 1, 4321))
    assert list(first) == SOME
    assert others == [first, first]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_well(name: str) -> None:
    assert chat_templates.prompt(name) == HOSTILE[name][1]


@pytest.mark.parametrize("name", list(USUAL)[::5])
def test_a_usual_template_is_shown(name: str) -> None:
    assert "{prompt}" in chat_templates.prompt(name)


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ (messages[0]|string)[-8:] }}{{ {'a': 1}.keys() - [] }}", "unsafe"),
        (HOSTILE["an equation of shared lists"][0], "slow"),
        (HOSTILE["half a pair"][0], "broken"),
    ],
)
def test_the_page_names_what_it_does_not_show(template: str, reason: str) -> None:
    english = words("en")
    page = render(made(chat={"chat_template": template}), "en")
    assert english["prompt.refused"].format(reason=english[f"prompt.{reason}"]) in page
    page.encode()
