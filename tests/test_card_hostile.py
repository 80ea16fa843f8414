"""Strangers' templates and metadata: neither run, nor hang, nor break the page."""

import time
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from card_facts import body, inline, made, structure, tokens
from quantmill.card import prompt
from quantmill.card.catalogue import LANGUAGES
from quantmill.card.markdown import addressed, code, fence, link, text
from quantmill.card.page import render
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
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ 'x' | replace('x', 'xx' * 9999) | replace('x', 'xx' * 9999) | replace('x', 'xx' * 9999) }}",
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
def test_a_template_neither_hangs_nor_floods(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt, "SECONDS", 1)
    found = prompt.prompt_of({"chat_template": template})
    assert found is not None
    assert found.refused in ("slow", "long", "broken"), found
    page = render(made(chat={"chat_template": template}), "en")
    assert "could not be rendered in a sandbox" in page
    assert len(page) < 20_000


def test_a_child_that_sleeps_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Should a template find a way to wait without using the processor."""
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time\nprint('{', flush=True)\ntime.sleep(3600)\n")
    monkeypatch.setattr(prompt, "CHILD", sleeper)
    monkeypatch.setattr(prompt, "PATIENCE", 1)
    began = time.monotonic()
    assert prompt.prompt_of({"chat_template": "x"}) == prompt.Prompt(refused="slow")
    assert time.monotonic() - began < 600


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
