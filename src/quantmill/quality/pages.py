"""The templates of pages: what a file names is shown in them and never obeyed, and what runs is theirs alone."""

import base64
import hashlib
import re
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from quantmill.errors import printable

_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)


def rendered(name: str, **values: Any) -> str:
    """The page of a template. Its own scripts are the only ones that its policy lets a browser run."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        finalize=_harmless,
    )
    return environment.get_template(name).render(script_digest=lambda: _script_digests(name), **values)


def cut(text: str, most: int) -> str:
    """At most so many characters of a text."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _text(name: str) -> str:
    return files("quantmill.quality").joinpath(name).read_text(encoding="utf-8")


def _script_digests(name: str) -> Markup:
    """Those of every page's script and of the template's own, as a policy lists them between its quotes."""
    scripts = [*_SCRIPT.findall(_text("page.html")), *_SCRIPT.findall(_text(name))]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    return Markup("' '".join(f"sha256-{digest}" for digest in digests))


def _harmless(value: Any) -> Any:
    """Texts without what turns a line around or cannot be seen; the template escapes the rest."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
