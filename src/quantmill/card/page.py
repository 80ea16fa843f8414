"""The page of a release, in one of the catalogue's languages: its sections in order, each a list of lines."""

from collections.abc import Callable, Sequence

from quantmill.card import tables
from quantmill.card.card_facts import CardFacts
from quantmill.card.catalogue import LANGUAGES, page_name, words
from quantmill.card.frontmatter import front_matter
from quantmill.card.markdown import addressed, code, fence, link, text
from quantmill.card.recommendation import advice
from quantmill.card.voice import HUB, Voice
from quantmill.reference.ftypes import FTYPES
from quantmill.released import ReleasedFile
from quantmill.units import size_text

TAGS = "https://github.com/ggml-org/llama.cpp/releases/tag"
CHANGES = "https://github.com/ggml-org/llama.cpp/pull"
MATRIX = "https://github.com/ggml-org/llama.cpp/wiki/Feature-matrix"
CHARTS = "https://gist.github.com/Artefact2/b5f810600771265fc1e39442288e8ec9"


class Page(Voice):
    """One page, section by section."""

    def lines(self) -> list[str]:
        head = front_matter(self.facts) if self.language == "en" else []
        found = [*head, *([""] if head else []), f"# {self.say('title.page', model=text(self.facts.model))}"]
        for section in (self.languages, self.intro, self.extra):
            found += ["", *lines] if (lines := section()) else []
        for title, body in SECTIONS:
            if content := body(self):
                found += ["", f"## {self.say(f'title.{title}')}", "", *content]
        return found

    def languages(self) -> list[str]:
        return [
            " | ".join(
                f"**{words(other)['name']}**"
                if other == self.language
                else f"[{words(other)['name']}]({self.where(page_name(other))})"
                for other in LANGUAGES
            )
        ]

    def intro(self) -> list[str]:
        facts = self.facts
        model, files = text(facts.model), facts.files
        largest = size_text(files[0].bytes)
        anchor = self.words["title.files"].lower()
        first = (
            self.say("intro.text", model=model, count=len(files), largest=largest, smallest=size_text(files[-1].bytes),
                     anchor=anchor)
            if len(files) > 1
            else self.say("intro.one", model=model, largest=largest)
        )  # fmt: skip
        base = link(facts.base, f"{HUB}/{facts.base}") if facts.on_hub else text(facts.base)
        parents = [link(name, f"{HUB}/{name}") for name in facts.parents]
        if facts.calibration:
            texts = (link(name, address) for name, address in facts.calibration)
            imatrix = self.say("intro.calibration", text=", ".join(texts))
        else:
            imatrix = self.say("intro.imatrix" if facts.imatrix else "intro.plain")
        license_ = facts.front.get("license_name") or facts.front.get("license")
        if license_:
            license_ = ", ".join(license_) if isinstance(license_, list) else license_
            shown = link(license_, facts.front.get("license_link", "") or "?")
            license_line = self.say("intro.license", license=shown)
        else:
            license_line = self.say("intro.license_other")
        items = [
            self.say("intro.base", base=base),
            *([self.say("intro.parents", models=", ".join(parents))] if parents else []),
            self.say(
                "intro.tag_unknown" if facts.unknown else "intro.tag",
                tag=facts.llama_cpp,
                link=f"{TAGS}/{facts.llama_cpp}",
            ),
            imatrix,
            *(self.say(f"intro.{note}", value=value) for note, value in facts.notes.items()),
            *self.searched(),
            self.say("intro.runs"),
            license_line,
        ]
        return [first, "", *(f"- {item}" for item in items)]

    def searched(self) -> list[str]:
        """Which files have types that were searched, and on which texts."""
        found = self.facts.searched
        if not found:
            return []
        names = ", ".join(map(code, found["files"]))
        texts = ", ".join(link(name, address) for name, address in found["on"])
        return [self.say("intro.searched", files=names, text=texts, measured=link(*found["measured"]))]

    def extra(self) -> list[str]:
        """The recipe's own Markdown, as it is."""
        return self.facts.extra.strip("\n").splitlines()

    def prompt(self) -> list[str]:
        prompt = self.facts.prompt
        if prompt is None:
            return [self.say("prompt.none")]
        if prompt.refused:
            return [self.say("prompt.refused", reason=self.words[f"prompt.{prompt.refused}"])]
        found = [self.say("prompt.text"), "", *fence(prompt.text)]
        said = ((prompt.shortened, "shortened"), (not prompt.system, "no_system"), (prompt.thinks, "think"))
        for holds, key in said:
            found += ["", self.say(f"prompt.{key}")] if holds else []
        return found

    def files(self) -> list[str]:
        return [*tables.files(self), "", self.say("files.units")]

    def choose(self) -> list[str]:
        facts = self.facts
        items = [self.say("choose.fast"), self.say("choose.best"), *self.simple()]
        memory = self.say("choose.memory")
        if facts.shape:
            megabytes = facts.shape.layers * facts.shape.cache_bytes(1000) / 1e6
            memory += (" " if self.language == "en" else "") + self.say("choose.context", megabytes=f"{megabytes:.0f}")
        found = [memory, "", *(f"- {item}" for item in items)]
        if any(name.ftype.startswith("IQ") for name in facts.files):
            found += ["", self.say("choose.kinds", matrix=MATRIX)]
        found += ["", self.say("choose.charts", charts=CHARTS)]
        found += advice(self)
        return [*found, "", self.say("choose.tool", command=f"quantmill choose {facts.repo or '.'}")]

    def simple(self) -> list[str]:
        """The K-quants that serve without much thought: those that are usual, or were measured to."""
        files = self.facts.files
        if not any(file.quality for file in files):
            return [self.say("choose.simple")]
        best = tables.recommended(files)
        names = [code(file.ftype) for file in reversed(files) if file.ftype in best and "_K" in file.ftype]
        return [self.say("choose.simple_measured", names=", ".join(names[:3]))] if names else []

    def embedding(self) -> list[str]:
        if not any(is_large(file) and not file.twin for file in self.facts.files):
            return []
        return [self.say("embedding.text"), *(["", self.say("embedding.tied")] if self.facts.tied else [])]

    def download(self) -> list[str]:
        repo, files = self.facts.repo, self.facts.files
        found = [self.say("download.here"), ""] if repo is None else []
        if repo is not None:
            single = self.single()
            found += [self.say("download.install"), "", *fence("pip install -U huggingface_hub", "sh"), ""]
            if self.facts.private:
                found += [self.say("download.private"), "", *fence("hf auth login", "sh"), ""]
            if single:
                command = f"hf download {repo} {single.name} --local-dir ."
                found += [self.say("download.one"), "", *fence(command, "sh"), ""]
                calls = f"llama-cli -hf {repo}:{single.ftype}\nollama run hf.co/{repo}:{single.ftype}"
                found += [self.say("download.run"), "", *fence(calls, "sh"), ""]
            if split := next((f for f in files if f.shards > 1), None):
                command = f'hf download {repo} --include "{split.name}*" --local-dir .'
                limit = f"{self.facts.limit / 1e9:g} GB"
                found += [self.say("download.split", limit=limit), "", *fence(command, "sh"), ""]
            found += [self.say("download.old"), ""]
        return [*found, self.say("download.check"), "", *fence("sha256sum --check --ignore-missing SHA256SUMS", "sh")]

    def single(self) -> ReleasedFile | None:
        """The file that examples name: Q4_K_M where it is recommended or none is, else the smallest that is."""
        searched = self.facts.searched.get("files", ())
        files = [file for file in self.facts.files if file.shards == 1]
        files = [file for file in files if file.ftype not in searched] or files  # programs know stock names
        best = tables.recommended(files)
        usual = [file for file in files if file.ftype == "Q4_K_M" and (not best or file.ftype in best)]
        return next(iter([*usual, *(f for f in reversed(files) if f.ftype in best), *reversed(files)]), None)

    def made(self) -> list[str]:
        """Where what tells of the release's making lies."""
        facts = self.facts
        if not facts.recipe:
            return []
        names = {"recipe": f"{facts.recipe}.toml", "lock": f"{facts.recipe}.lock", "provenance": "provenance.json"}
        links = {key: f"[{text(name)}]({self.where(name)})" for key, name in names.items()}
        command = f"quantmill reproduce {facts.repo}@TAG" if facts.repo else "quantmill reproduce ."
        items = [
            self.say("made.recipe", **links),
            *([self.say("made.report", link=self.where("report.html"))] if facts.chart else []),
            self.say("made.again_at" if facts.repo else "made.again", command=command),
        ]
        return [f"- {item}" for item in items]

    def support(self) -> list[str]:
        return [addressed(self.facts.support)] if self.facts.support else []

    def repack(self) -> list[str]:
        present = {file.ftype for file in self.facts.files}
        if "Q4_0" not in present:
            return []
        iq4_nl = ["", self.say("repack.iq4_nl", change=f"{CHANGES}/10541")] if "IQ4_NL" in present else []
        return [self.say("repack.text", change=f"{CHANGES}/9921"), *iq4_nl, "", self.say("repack.old")]

    def quality(self) -> list[str]:
        if not any(file.quality for file in self.facts.files):
            return []
        chart = self.facts.chart
        # A picture on the Hub's page wants the file itself, not the page about it.
        address = f"{HUB}/{self.facts.repo}/resolve/main/{chart}" if self.facts.repo else chart
        picture = ["", f"![{self.say('quality.chart')}]({address})"] if chart else []
        return [self.say("quality.text"), *picture]

    def bench(self) -> list[str]:
        bench = self.facts.bench
        if bench is None:
            return []
        host = self.say("bench.text", cpu=text(bench.cpu), threads=bench.threads, backend=text(bench.backend))
        fold = ["<details>", f"<summary>{self.say('bench.open')}</summary>", "", *tables.bench(self, bench), ""]
        return [host, "", *fold, "</details>"]

    def credits(self) -> list[str]:
        return [f"- {addressed(credit)}" for credit in self.facts.credits]


# The page's sections after its head; one that has nothing to say is left out, in every language alike.
SECTIONS: Sequence[tuple[str, Callable[[Page], list[str]]]] = (
    ("prompt", Page.prompt),
    ("files", Page.files),
    ("choose", Page.choose),
    ("embedding", Page.embedding),
    ("download", Page.download),
    ("repack", Page.repack),
    ("quality", Page.quality),
    ("bench", Page.bench),
    ("made", Page.made),
    ("credits", Page.credits),
    ("support", Page.support),
)


def render(facts: CardFacts, language: str) -> str:
    """The page's text. The same facts give the same text, on every machine."""
    return "\n".join(Page(facts, language).lines()) + "\n"


def is_large(file: ReleasedFile) -> bool:
    """Whether a file's embedding and output weights are those of an `_L` form."""
    found = FTYPES.get(file.ftype)
    return found is not None and found.embedding_and_output is not None
