"""Pages for tests: the facts of a release like a real one, and what a reader of Markdown sees in a page."""

import re
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from quantmill.card.card_facts import CardFacts, facts
from quantmill.released import Bench, BenchRow, Quality, ReleasedFile

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)
PARAMS: dict[str, Any] = {
    "prefix": "open_Model-32B",
    "llama_cpp": "b5490",
    "base": "open/Model-32B",
    "on_hub": True,
    "repo": "someone/open_Model-32B-GGUF",
    "quantized_by": "someone",
    "pipeline_tag": "text-generation",
    "front": {"license": "apache-2.0", "language": ["en", "no"], "datasets": ["open/data"], "tags": ["code"]},
    "calibration": [["calibration.txt", "https://example.org/texts/calibration.txt"], ["another.txt", ""]],
    "imatrix": True,
    "tied": False,
    "shape": {
        "layers": 64,
        "heads": 40,
        "cache": 2048,
        "width": 5120,
        "feed_forward": 27648,
        "vocabulary": 152064,
        "context": 32768,
    },
    "max_size": 50_000_000_000,
    "credits": ["Thanks to a_b for the text, see https://example.org/a_b."],
    "chat": {"chat_template": CHATML, "eos_token": "<|im_end|>"},
}
FILES = (
    ReleasedFile("open_Model-32B-Q4_K_M.gguf", "Q4_K_M", 19_851_336_256, 1),
    ReleasedFile("open_Model-32B-bf16/", "BF16", 65_535_969_152, 2),
    ReleasedFile("open_Model-32B-Q4_0.gguf", "Q4_0", 18_711_336_256, 1),
    ReleasedFile("open_Model-32B-IQ4_NL.gguf", "IQ4_NL", 18_681_336_256, 1),
    ReleasedFile("open_Model-32B-Q2_K_L.gguf", "Q2_K_L", 13_071_336_256, 1),
)
KLD = {"mean": 0.01234, "median": 0.002, "p90": 0.03, "p99": 0.2, "p999": 1.0, "max": 5.0}
QUALITY = Quality(7.125, 0.05, KLD, 0.9512)
BENCH = Bench("AMD EPYC 7702", 64, "CPU", (BenchRow("Q4_0", "pp512", 204.03, 1.03, 100.0),))


def made(files: tuple[ReleasedFile, ...] = FILES, **changes: Any) -> CardFacts:
    """The facts above, with changes of the card step's params; `bench` and `chart` are the page's."""
    bench, chart = changes.pop("bench", None), changes.pop("chart", None)
    return facts(PARAMS | changes, files, bench, chart)


def body(page: str) -> str:
    """A page without its front matter."""
    return page.split("\n---\n", 1)[1] if page.startswith("---\n") else page


def tokens(page: str) -> list[Token]:
    """What a Markdown reader makes of a page: block tokens, each with its inline children."""
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body(page))


def inline(page: str) -> list[Token]:
    return [child for token in tokens(page) for child in token.children or ()]


def structure(page: str) -> list[str]:
    """The kinds of the page's blocks in order, and of the links, pictures and code within them."""
    kept = ("link_open", "image", "code_inline", "html_inline")
    found = []
    for token in tokens(page):
        found.append(f"{token.type} {token.tag}")
        found += [child.type for child in token.children or () if child.type in kept]
    return found


def numbers(page: str) -> list[str]:
    """Every number and code of a page's tables, links and code blocks, in order: what no translation changes."""
    found = []
    for token in tokens(page):
        if token.type == "fence":
            found.append(token.content)
        for child in token.children or ():
            if child.type == "code_inline":
                found.append(child.content)
            if child.type == "link_open":
                found.append(str(child.attrs["href"]).partition("#")[0])
    return found


def cells(page: str) -> list[list[str]]:
    """The rows of all tables as source; a space that does not break is one."""
    rows = [line.replace("&nbsp;", " ") for line in page.splitlines() if line.startswith("| ")]
    return [re.split(r"(?<!\\) ?\| ?", row)[1:-1] for row in rows]
