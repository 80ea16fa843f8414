"""The page: what it says, in four languages alike, for the Hub and for a linter, with and without measured numbers."""

import dataclasses
import re
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from card_facts import BENCH, FILES, KLD, QUALITY, body, cells, made, numbers, structure, tokens
from models_released import model
from projects import Project
from quantmill.card.card_facts import CardFacts
from quantmill.card.catalogue import LANGUAGES, page_name, words
from quantmill.card.page import render
from quantmill.choose.choice import choose
from quantmill.choose.machine import machine
from quantmill.choose.placement import best_placement
from quantmill.reference.ftypes import FTYPES
from quantmill.released import Quality, ReleasedFile, bench, quality

MEASURED = tuple(ReleasedFile(f.name, f.ftype, f.bytes, f.shards, QUALITY) for f in FILES)

COPIES = tuple(
    ReleasedFile(f"m-{ftype}.gguf", ftype, size, 1, Quality(7.0, None, {"mean": kld}, 0.95), 6.2, 0.8, weights, digest)
    for ftype, size, kld, weights, digest in (
        ("Q4_K_L", 700, 0.02, "w", "a"),
        ("Q4_K_M", 700, 0.02, "w", "a"),
        ("Q4_K_S", 700, 0.02, "w", "b"),
        ("IQ4_NL", 600, 0.000001, "v", "c"),
    )
)
# A page with all that not every one has.
FULL = made(
    COPIES, chart="chart.svg", recipe="r", parents=["a/b"], on_hub=False, base="m", private=True, support="Thanks.",
    extra="By *hand*.", name="M", thumbnail="https://example.org/a.png",
)  # fmt: skip


def figures(text: str) -> list[str]:
    """The numbers, names of types, tags and commands in a text, in alphabetical order."""
    return sorted(re.findall(r"[A-Za-z_]*[0-9](?:[\w^]|\.(?=[0-9]))*", text, re.ASCII))


def fields(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalogue_is_complete(language: str) -> None:
    english, found = words("en"), words(language)
    assert found.keys() == english.keys()
    assert {key: fields(text) for key, text in found.items()} == {key: fields(text) for key, text in english.items()}
    assert not [key for key, text in found.items() if not text.strip()]
    same = {key for key in found if found[key] == english[key]}
    assert language == "en" or same <= {"files.kld"}
    bases = {ftype.base for ftype in FTYPES.values()} - {"COPY"}
    assert bases == {key.removeprefix("ftype.") for key in found if key.startswith("ftype.")} - {"large", "recommended"}


@pytest.mark.parametrize(
    "facts", [made(), made(MEASURED, bench=BENCH, chart="chart.svg"), made(repo=None, chat={}), FULL]
)
def test_the_languages_have_the_same_sections_tables_and_numbers(facts: CardFacts) -> None:
    pages = [render(facts, language) for language in LANGUAGES]
    assert len(set(pages)) == len(LANGUAGES)
    for page in pages[1:]:
        assert structure(page) == structure(pages[0])
        assert numbers(page)[3:] == numbers(pages[0])[3:]  # after the links between the pages
        assert [[figures(cell) for cell in row] for row in cells(page)] == [
            [figures(cell) for cell in row] for row in cells(pages[0])
        ]
        ours, english = ([t.content for t in tokens(p) if t.type == "inline"] for p in (page, pages[0]))
        assert [figures(text) for text in ours] == [figures(text) for text in english]


def test_the_table_is_by_size_with_links_and_splits() -> None:
    hub = "https://huggingface.co/someone/open_Model-32B-GGUF"
    page = render(made(), "en")
    assert "github.com/ggml-org/llama.cpp/wiki/Feature-matrix" in page
    rows = cells(page)
    assert rows[0] == ["File", "Type", "Size", "Split", "Description"]
    assert rows[2] == [
        f"[open_Model-32B-bf16/]({hub}/tree/main/open_Model-32B-bf16)",
        "BF16",
        "65.54 GB",
        "yes, 2 parts",
        words("en")["ftype.BF16"],
    ]
    assert "| 65.54&nbsp;GB | yes,&nbsp;2&nbsp;parts |" in render(made(), "en")  # in a narrow cell too
    assert [row[1] for row in rows[2:7]] == ["BF16", "Q4_K_M", "Q4_0", "IQ4_NL", "Q2_K_L"]
    assert rows[3][0] == f"[open_Model-32B-Q4_K_M.gguf]({hub}/blob/main/open_Model-32B-Q4_K_M.gguf)"
    assert rows[3][4] == "A small loss: the usual choice. *Recommended.*"
    assert rows[6][4] == "A very large loss, but it works. Embedding and output weights in Q8_0."


def test_the_table_of_memory_agrees_with_choose() -> None:
    """It is made of sizes alone; what it names fits when every tensor is counted."""
    for name, tied in (("32B", False), ("8B", False), ("3B", True)):
        found = model(name)
        shape = dataclasses.asdict(found.shape)
        page = render(made(tuple(c.file for c in found.candidates), shape=shape, tied=tied, chat={}), "en")
        rows = [row for row in cells(page) if re.fullmatch(r"\d+ GB", row[0])]
        assert len(rows) >= 3
        for memory, *named in rows:
            amount = int(memory.split()[0]) * 10**9
            for backend, cell in zip(("cuda", "vulkan", "metal", "arm"), named, strict=True):
                card = (amount,) if backend in ("cuda", "vulkan") else ()
                there = machine(backend, card, 10**12 if card else amount)
                if cell != "-":
                    placed = best_placement(found.of(cell.strip("`")).weights, found.shape, there, 8192, False)
                    assert placed is not None
                    assert placed.full or backend == "arm"
        if name == "32B":
            assert rows[1] == ["24 GB", "`Q4_K_L`", "`Q4_K_L`", "`IQ2_M`", "`Q3_K_L`"]
            best = choose(found.candidates, found.shape, machine("cuda", (24 * 10**9,), 10**12), "speed", 8192).best
            assert best.file.ftype == "Q4_K_L"


def test_what_was_measured_is_shown_and_only_that() -> None:
    plain = render(made(), "en")
    assert "KLD" not in plain
    assert "<details>" not in plain
    page = render(made((*MEASURED[:2], *FILES[2:]), bench=BENCH, chart="chart.svg"), "en")
    rows = cells(page)
    assert rows[0][4:7] == ["KLD", "Perplexity", "Same top token"]
    assert rows[2][4:7] == ["0.01234", "7.125 ± 0.050", "95.1%"]
    assert rows[4][4:7] == ["", "", ""]
    assert "![Size and KLD of the files](https://huggingface.co/someone/open_Model-32B-GGUF/resolve/main/chart" in page
    assert rows[-1] == ["Q4_0", "pp512", "204.03 ± 1.03", "100 %"]
    assert page.index("<details>") < page.index("pp512") < page.index("</details>")


def test_reports_of_verify_and_bench() -> None:
    report = {"quality": {"perplexity": 7.125, "perplexity_error": 0.05, "kld": KLD, "top1": 0.9512}}
    assert quality(report) == QUALITY
    assert quality({"files": []}) is None
    half = quality({"quality": {"perplexity": float("nan"), "kld": {"mean": "0.1"}}})
    assert half is not None
    assert (half.perplexity, half.kld, half.top1) == (None, {}, None)
    row = {"ftype": "Q4_0", "test": "pp512", "ts": 204.03, "sd": 1.03, "percent_of_q4_0": 100}
    host = {"cpu": "AMD EPYC 7702", "cores": 64, "threads": 64, "backend": "CPU", "versions": {}}
    assert bench({"host": host, "rows": [row]}) == BENCH
    once = bench({"host": host, "rows": [row | {"sd": None}]})
    assert once is not None
    assert cells(render(made(bench=once), "en"))[-1] == ["Q4_0", "pp512", "204.03", "100 %"]
    assert bench({"host": host, "rows": []}) is None
    assert bench(None) is None


def test_the_hub_reads_the_front_matter() -> None:
    card = ModelCard(render(made(), "en"))
    assert card.data.to_dict() == {
        "quantized_by": "someone",
        "pipeline_tag": "text-generation",
        "base_model": "open/Model-32B",
        "base_model_relation": "quantized",
        "license": "apache-2.0",
        "language": ["en", "no"],
        "datasets": ["open/data"],
        "tags": ["code"],
    }
    assert card.text.lstrip().startswith("# Model-32B in GGUF")


def test_the_prompt_is_the_templates_and_thinking_is_said() -> None:
    page = render(made(), "en")
    assert (
        "```text\n<|im_start|>system\n{system_prompt}<|im_end|>\n<|im_start|>user\n{prompt}<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n```\n" in page
    )
    assert words("en")["prompt.think"] in page
    gemma = "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + (
        "{% for m in messages %}<turn>{{ m.role }}\n{{ m.content }}\n{% endfor %}{{ strftime_now('%d') }}"
    )
    page = render(made(chat={"chat_template": gemma, "bos_token": "<bos>"}), "en")
    assert "```text\n<bos><turn>user\n{prompt}\n{date}\n```\n\nThis template takes no system message.\n" in page
    assert words("en")["prompt.think"] not in page
    assert words("en")["prompt.none"] in render(made(chat={}), "en")


def test_a_long_constant_part_is_shown_shortened() -> None:
    template = "<s>system\n" + "Rules. " * 1000 + "End of rules\n{{ messages[-1].content }}\n<assistant><think>"
    page = render(made(chat={"chat_template": template}), "en")
    (shown,) = re.findall(r"```text\n(.*?)\n```\n\n", page, re.DOTALL)
    assert len(shown) < 1100
    assert shown.startswith("<s>system\nRules. ")
    assert "[…]" in shown
    assert shown.endswith("End of rules\n{prompt}\n<assistant><think>")
    for key in ("shortened", "no_system", "think"):
        assert words("en")[f"prompt.{key}"] in page
    endless = "x" * 100_000 + "{{ messages[-1].content }}"
    assert words("en")["prompt.long"] in render(made(chat={"chat_template": endless}), "en")
    parts = ("x" * 900 + "{{ messages[-1].content }}") * 6
    assert words("en")["prompt.long"] in render(made(chat={"chat_template": parts}), "en")


def test_a_linter_finds_nothing(tmp_path: Path) -> None:
    for number, facts in enumerate(
        (made(), made(MEASURED, bench=BENCH, chart="c.svg"), made(repo=None, chat={}), FULL)
    ):
        for language in LANGUAGES:
            (tmp_path / f"{number}-{page_name(language)}").write_text(render(facts, language))
    # A table's row and a sentence are a line each, however long; the fold is HTML, for Markdown has none.
    options = ("-d", "MD013,MD033", "--set", "extensions.front-matter.enabled=$!True")
    program = (sys.executable, "-m", "pymarkdown", *options, "scan", str(tmp_path))
    done = subprocess.run(program, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_a_build_and_the_command_write_the_same_pages(project: Project) -> None:
    project.edit('prefix = "small"', 'prefix = "small"\ncard.credits = ["Nobody"]\npublish.owner = "someone"')
    project.run("quantmill", "card", "small", "-o", "before")
    pages = {page_name(language) for language in LANGUAGES}
    before = {path.name: path.read_bytes() for path in (project.folder / "before").iterdir()}
    assert before.keys() == pages
    project.run("doit")
    release = project.release()
    assert {name: release[name] for name in pages} == before
    assert body(before["README.md"].decode()).count("https://huggingface.co/someone/small-GGUF/") == 3 + 4 + 3
    assert "- Nobody\n" in before["README.ja.md"].decode()
    project.edit("Nobody", "Somebody")
    assert project.ran("doit") == ["card:small", "release:small"]


def measured_as(ftype: str, size: int, kld: float, top1: float, **more: Any) -> ReleasedFile:
    return ReleasedFile(f"m-{ftype}.gguf", ftype, size, 1, Quality(7.0, 0.1, {"mean": kld}, top1), **more)


def described(*files: ReleasedFile) -> dict[str, str]:
    """What the English page says of each file, by ftype."""
    rows = cells(render(made(files), "en"))
    return {row[1]: row[-1] for row in rows if row[1] in {file.ftype for file in files}}


def test_descriptions_follow_what_was_measured() -> None:
    found = described(
        measured_as("Q8_0", 900, 0.001, 0.98),
        measured_as("Q6_K", 800, 0.0055, 0.96),
        measured_as("Q5_K_M", 750, 0.012, 0.94),
        measured_as("Q4_K_M", 700, 0.09, 0.82),
        measured_as("IQ4_XS", 690, 0.074, 0.86),
        measured_as("Q3_K_M", 690, 0.05, 0.9),
        measured_as("Q4_0", 650, 0.3, 0.7),
        measured_as("Q2_K", 400, 2.0, 0.4),
    )
    assert found == {
        "Q8_0": "Cannot be told from the original.",
        "Q6_K": "Next to no loss. *Recommended.*",
        "Q5_K_M": "A very small loss. *Recommended.*",
        "Q4_K_M": "A clear loss.",
        "IQ4_XS": "A loss that can be noticed.",
        "Q3_K_M": "A small loss. *Recommended.*",
        "Q4_0": f"A large loss. {words('en')['ftype.Q4_0']}",
        "Q2_K": "The loss is severe.",
    }


def test_what_another_file_of_its_size_beats_is_not_recommended() -> None:
    found = described(measured_as("Q5_K_S", 700, 0.02, 0.95), measured_as("Q5_K_M", 710, 0.021, 0.95))
    assert "Recommended" in found["Q5_K_S"]
    assert "Recommended" not in found["Q5_K_M"]


def test_files_with_the_same_bytes_or_weights_say_so() -> None:
    large = measured_as("Q5_K_L", 700, 0.02, 0.95, digest="a", weights="w")
    plain = measured_as("Q5_K_M", 700, 0.02, 0.95, digest="a", weights="w")
    small = measured_as("Q5_K_S", 700, 0.02, 0.95, digest="b", weights="w")
    assert described(large, plain, small) == {
        "Q5_K_L": "The same file as `Q5_K_M`, byte for byte.",
        "Q5_K_M": "A very small loss. *Recommended.*",
        "Q5_K_S": "The same weights as `Q5_K_M`.",
    }
    page = render(made((large, plain, small)), "en")
    assert words("en")["title.embedding"] not in page
    assert "`Q5_K_L`" not in page.partition("Which file should")[2]


def test_a_name_that_is_not_true_is_told_and_not_recommended() -> None:
    untrue = ReleasedFile("m-Q4_K_M.gguf", "Q4_K_M", 700, 1, None, 7.02, 0.59)
    assert described(untrue, ReleasedFile("m-Q6_K.gguf", "Q6_K", 800, 1, None, 6.6, 0.15)) == {
        "Q4_K_M": (
            "A small loss: the usual choice. 59% of its weights are of another type than its name says: "
            "7.02 bits a weight."
        ),
        "Q6_K": "Next to no loss. *Recommended.*",
    }


def test_a_difference_is_never_shown_as_none() -> None:
    page = render(made((measured_as("Q8_0", 900, 0.000004, 0.9996), measured_as("Q6_K", 800, 0.0, 1.0))), "en")
    rows = {row[1]: row for row in cells(page)}
    assert rows["Q8_0"][4:7:2] == ["<0.00001", ">99.9%"]
    assert rows["Q6_K"][4:7:2] == ["0", "100.0%"]
