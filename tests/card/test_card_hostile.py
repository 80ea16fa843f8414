"""Strangers' templates and metadata: neither run, nor hang, nor break the page."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from card_facts import body, inline, made, structure, tokens
from projects import ROOT
from quantmill.card import prompt
from quantmill.card.catalogue import LANGUAGES
from quantmill.card.markdown import addressed, code, fence, link, text
from quantmill.card.page import render
from quantmill.errors import QuantmillError
from quantmill.released import ReleasedFile

ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ cycler.__init__.__globals__.os.popen('touch MARK').read() }}",
    "{{ raise_exception.__globals__['resource'] }}",
    "{{ strftime_now.__globals__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(raise_exception) }}",
    "{{ ('{0.__class__}' | attr('format'))(messages) }}",
    "{{ lipsum.__globals__['os'].system('touch MARK') }}",
    "{% set x = messages.append(1) %}{{ x }}{prompt}",
    "{{ messages.clear() }}{prompt}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system('touch MARK') }}",
    "{% extends 'x' %}",
    "{{ namespace.__init__.__globals__ }}",
]
ENDLESS = [
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "{{ 9 ** (9 ** (9 ** 9)) }}",
    "{{ 'x' | replace('x', 'xx' * 9999) | replace('x', 'xx' * 9999) | replace('x', 'xx' * 9999) }}",
]
MOST = 20_000  # units that the recipes' templates take at most
LIST = "{% set l = range(50000) | list %}"
COSTLY = [  # each of few nodes, with far more to do than they look like
    LIST + "{% for a in l %}{% if 'x' in l %}{% endif %}{% endfor %}",
    LIST + "{% for a in l %}{% for b in l if false %}{% endfor %}{% endfor %}",
    LIST + "{% for a in l %}{% set b = l[1:] %}{% endfor %}",
    LIST + "{{ l | select('in', l) | list | length }}",
    "{% set ns = namespace(x='a') %}{% for i in range(40) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "{% set ns = namespace(x='a') %}{% for i in range(40) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}",
    "{% set ns = namespace(x=3) %}{% for i in range(40) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "{% macro f(n) %}{% for i in range(9) %}{{ f(n - 1) if n else '' }}{% endfor %}{% endmacro %}{{ f(20) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ 'x'.center(10 ** 9) }}",
    "{{ 'x' | center(10 ** 9) }}",
    "{{ 'x' | indent(10 ** 9) }}",
    "{{ [[['x' * 1000] * 1000] * 1000] * 1000 }}",
]
HUGE = ["{{ 'a' * 10 ** 9 }}", "{% for a in range(99999) %}aaaaaaaaaa{% endfor %}", "{{ ('%' ~ 10 ** 9 ~ 'd') % 1 }}"]
EVIL = [
    "<script>alert(1)</script>",
    "</details><h1>Free</h1><img src=x onerror=alert(1)>",
    "a\n# Heading\n\n- item\n\n---\n",
    "x | y | z",
    "[click](javascript:alert(1)) ![i](http://evil.example/p.png)",
    "```\nfence\n```",
    "`code` *bold* _it_ ~~no~~ $x$ \\",
    "\x1b[31mred\x00\x07\u202eevil\u2028line\ud7ff",
    "http://evil.example www.evil.example me@evil.example",
    "&lt;b&gt; &#60;b&#62; <!-- hidden",
    "---\nlicense: mit\n---",
    "{0} {prompt} {{x}} %s",
    "1. one",
    "x" * 100_000,
]


def headings(page: str) -> list[str]:
    found = tokens(page)
    return [found[at + 1].content for at, token in enumerate(found) if token.type == "heading_open"]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_template_does_not_leave_the_sandbox(template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mark = tmp_path / "mark"
    found = prompt.prompt_of({"chat_template": template.replace("MARK", str(mark)) + "{{ messages[0].content }}"})
    assert found is not None
    assert found.refused in ("unsafe", "broken") or found.text == "{prompt}"  # what is forbidden is also undefined
    assert not mark.exists()


@pytest.mark.parametrize("template", [*ENDLESS, *HUGE])
def test_a_template_neither_hangs_nor_floods(template: str) -> None:
    found = prompt.prompt_of({"chat_template": template})
    assert found is not None
    assert found.refused in ("slow", "long", "broken"), found
    page = render(made(chat={"chat_template": template}), "en")
    assert "could not be rendered in a sandbox" in page
    assert len(page) < 20_000


@pytest.mark.parametrize("template", [*COSTLY, ENDLESS[0], ENDLESS[2], ENDLESS[3], HUGE[0], HUGE[2]])
def test_what_is_refused_is_counted_not_timed(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever time there is, so that every machine makes the same page."""
    monkeypatch.setattr(prompt, "SECONDS", 3000)
    assert prompt.prompt_of({"chat_template": template}) == prompt.Prompt(refused="slow")


@pytest.mark.parametrize(
    "name", ["olympiccoder-32b", "tessa-t1-3b", "qwen3-8b", "qwq-32b-rpr-v4", "inf-o1-pi0", "tiny"]
)
def test_a_recipe_s_template_needs_a_tenth_of_what_it_may_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    about = json.loads((ROOT / "recipes" / f"{name}.lock").read_text())["about"]
    found = prompt.prompt_of(about)
    monkeypatch.setattr(prompt, "WORK", prompt.WORK // 10)
    assert prompt.prompt_of(about) == found
    assert found is not None
    assert "{prompt}" in found.text


def test_the_count_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """One unit less is refused, each time."""
    about = json.loads((ROOT / "recipes" / "qwen3-8b.lock").read_text())["about"]
    low, high = 0, MOST
    while high - low > 1:
        monkeypatch.setattr(prompt, "WORK", (low + high) // 2)
        found = prompt.prompt_of(about)
        assert found is not None
        low, high = (low, prompt.WORK) if found.text else (prompt.WORK, high)
    for work, refused in ((low, "slow"), (high, ""), (low, "slow"), (high, "")):
        monkeypatch.setattr(prompt, "WORK", work)
        again = prompt.prompt_of(about)
        assert again is not None
        assert again.refused == refused
    assert 100 < high < MOST


def test_a_child_that_sleeps_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Should a template find a way to wait without using the processor."""
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time\nprint('{', flush=True)\ntime.sleep(3600)\n")
    monkeypatch.setattr(prompt, "CHILD", sleeper)
    monkeypatch.setattr(prompt, "PATIENCE", 1)
    began = time.monotonic()
    with pytest.raises(QuantmillError) as caught:
        prompt.prompt_of({"chat_template": "x"})
    assert str(caught.value).startswith("the model's chat template was still not rendered after 60 s of processor time")
    assert time.monotonic() - began < 600


@pytest.mark.parametrize(
    ("program", "how"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("import os; os.abort()", "signal 6"),
        ("print('{}')", "exit code 0"),
        ("import sys; sys.stdout.write('x' * 10 ** 7)", "signal 9"),
    ],
)
def test_a_child_that_ends_by_itself_is_told(
    program: str, how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    child = tmp_path / "child.py"
    child.write_text(program)
    monkeypatch.setattr(prompt, "CHILD", child)
    with pytest.raises(QuantmillError) as caught:
        prompt.prompt_of({"chat_template": "x"})
    assert str(caught.value) == (
        f"{child} was to render the model's chat template, and ended with {how} and no answer; "
        "see that jinja2 is installed for this Python and that memory is free"
    )


@pytest.mark.parametrize("character", ["\U0001f600", "\x01", "\u20ac"])
def test_a_long_prompt_of_any_characters_arrives(character: str) -> None:
    """The child writes ASCII: twelve bytes for a character beyond U+FFFF."""
    text = character * (prompt.LENGTH - len(prompt.USER))
    assert prompt.prompt_of({"chat_template": text + "{{ messages[-1].content }}"}) == prompt.Prompt(
        text + prompt.USER, system=False
    )


def test_a_prompt_that_would_end_its_block_does_not() -> None:
    template = "{{ messages[0].content }}\n```\n# Not a heading\n````\n<b>{{ messages[-1].content }}\x1b[2J\u202e"
    page = render(made(chat={"chat_template": template}), "en")
    (shown,) = [token.content for token in tokens(page) if token.type == "fence" and "{prompt}" in token.content]
    assert shown == "{system_prompt}\n```\n# Not a heading\n````\n<b>{prompt}\\u001b[2J\\u202e\n"
    assert headings(page) == headings(render(made(), "en"))
    assert not [token for token in inline(page) if token.type == "html_inline"]


@pytest.mark.parametrize("evil", EVIL)
def test_metadata_stays_text(evil: str) -> None:
    files = (ReleasedFile("a-Q4_0.gguf", "Q4_0", 5_000_000, 1), ReleasedFile("a-Q8_0.gguf", "Q8_0", 9_000_000, 1))
    evils: dict[str, Any] = {
        "base": evil,
        "on_hub": False,
        "calibration": [[evil, evil]],
        "front": {"license": evil, "license_name": evil, "license_link": evil, "language": [evil], "tags": [evil]},
        "pipeline_tag": evil,
        "quantized_by": evil,
        "credits": [evil],
    }
    good = {
        "base": "good",
        "on_hub": False,
        "calibration": [["good", "no address"]],
        "front": {
            "license": "mit",
            "license_name": "mit",
            "license_link": "no link",
            "language": ["en"],
            "tags": ["a"],
        },
        "credits": ["good"],
    }
    page, plain = (render(made(files, **said, chat={}), "en") for said in (evils, good))
    expected = [s for s in structure(plain) if s != "link_open"]
    assert [s for s in structure(page) if s != "link_open"] == expected
    assert not [token for token in inline(page) if token.type in ("html_inline", "image")]
    hrefs = {str(token.attrs["href"]) for token in inline(page) if token.type == "link_open"}
    assert all(href.startswith(("https://", "http://", "README", "a-Q", "#")) for href in hrefs)
    assert all(char.isprintable() or char == "\n" for char in page)
    assert len(page) < 20_000
    data = ModelCard(page).data.to_dict()
    assert len(data["tags"]) == 1
    assert set(data) <= {"quantized_by", "pipeline_tag", *evils["front"]}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_without_anything_known(language: str) -> None:
    files = (ReleasedFile("x.gguf", "NEW_TYPE", 1, 1),)
    page = render(
        made(files, base="", on_hub=False, repo=None, front={}, calibration=[], imatrix=False, credits=[], chat={},
             shape=None),
        language,
    )  # fmt: skip
    assert "[x.gguf](x.gguf) | NEW_TYPE" in body(page)


def test_texts() -> None:
    assert text("Qwen3-8B_v1.5") == "Qwen3-8B_v1.5"
    assert text("_a_ *b* <i> a|b\nc") == r"\_a\_ \*b\* &lt;i> a\|b c"
    assert text("# x") == r"\# x"
    assert text("- x") == r"\- x"
    assert text("2. x") == r"2\. x"
    assert code("a`b") == "`` a`b ``"
    assert link("x", "https://a.example/b_c?d=1") == "[x](https://a.example/b_c?d=1)"
    assert link("x", "javascript:alert(1)") == "x"
    assert link("x", "https://a.example/) <b>") == "x"
    assert addressed("see https://a.example/x_y. And *this*") == r"see <https://a.example/x_y>. And \*this\*"
    assert fence("a\n```\nb") == ["````text", "a", "```", "b", "````"]
