"""The page of an audit: a row a file, a map of verdicts, what to do; and that no name in it is obeyed."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import gguf_files
from hostile.pages import EVIL, Page
from quantmill import gguf
from quantmill.cli import main
from quantmill.quality.audit_page import ADVICE, MOST_TOLD, render_audit

VICTIM = "blk.1.ffn_up.weight"


def audited(**changed: Any) -> dict[str, Any]:
    tensors = [
        {"name": f"blk.{n}.attn_q.weight", "type": "Q4_K", "word": "same", "why": "x", "spot": None}
        | {"differing": 0, "blocks": 8}
        for n in range(3)
    ]
    file = {"name": "x.gguf", "verdict": "same", "digests": {"x.gguf": "0" * 64}, "mix": "m", "tags": "b1"}
    file |= {"rows": 1, "all_rows": 1, "chance": 1.0, "metadata": [], "notes": [], "tensors": tensors, **changed}
    audit = {"format": 1, "quantmill": "1", "base": [{"name": "base.gguf", "sha256": None}], "imatrix": None}
    return {**audit, "tag": None, "sample": None, "files": [file]}


def test_names_are_shown_and_not_obeyed() -> None:
    tensor = {"name": EVIL, "type": EVIL, "word": "changed", "why": EVIL, "differing": 1, "blocks": 2}
    tensor["spot"] = {"block": 1, "weight": 2, "base": 0.5, "found": "nan"}
    key = {"key": EVIL, "word": "changed", "why": EVIL, "lines": [EVIL]}
    audit = audited(name=EVIL, mix=EVIL, tags=EVIL, notes=[EVIL], metadata=[key], tensors=[tensor], verdict="changed")
    audit |= {"base": [{"name": EVIL, "sha256": "0" * 64, "repo": EVIL, "commit": EVIL}], "base_named_by": EVIL}
    audit |= {"imatrix": {"name": EVIL, "sha256": "0" * 64}, "tag": EVIL}
    text = render_audit(audit, [EVIL], [EVIL])
    page = Page(text)
    page.check()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "49" not in re.findall(r"\b\d+\b", page.text)
    assert page.text.count("<script>alert(1)</script>") > 10
    assert "default-src 'none'" in text


def test_a_page_is_bounded() -> None:
    one = {"type": "Q4_K", "word": "changed", "why": "y" * 9999, "spot": None, "differing": 1, "blocks": 2}
    tensors = [{**one, "name": f"blk.{n}.{n % 300}{'x' * 500}"} for n in range(16_384)]
    keys = [{"key": "k" * 9999, "word": "changed", "why": "y" * 9999, "lines": []} for _ in range(5000)]
    text = render_audit(audited(tensors=tensors, metadata=keys, notes=["n" * 9999] * 5000, verdict="changed"))
    assert len(text) < 1 << 20
    assert f"and {16_384 - MOST_TOLD} more." in text
    assert "more tensors are not drawn" in text
    assert render_audit(audited(tensors=[])).count("<rect") == 0


def test_the_command_writes_a_page(toy: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = tmp_path / "r", tmp_path / "audit.html"
    folder.mkdir()
    shutil.copy(toy.quantized("Q8_0"), folder / "a.gguf")
    gguf_files.changed(toy.quantized("Q4_K_M"), folder / "b.gguf", tokenizer__chat_template="other\n" * 50)
    with gguf.read(folder / "b.gguf") as file, open(folder / "b.gguf", "r+b") as out:
        out.seek(file.data_offset + file.tensors[VICTIM].offset + 300)
        out.write(b"\xff" * 30)

    def run(*arguments: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["audit", str(folder), "--base", str(toy.base), *map(str, arguments)])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    assert run("--imatrix", toy.imatrix, "--html", page, "--json", folder / "other.json") == 1
    found = Page(page.read_text())
    found.check()
    rows = [attributes for tag, attributes in found.found if tag == "rect"]
    assert len(rows) == 2 * len(toy.tensors)
    assert [row["class"] for row in rows].count("changed") == 1
    for said in (ADVICE["changed"], ADVICE["same"], "tokenizer.chat_template", "+other", VICTIM, "base.gguf"):
        assert said in found.text
    text = page.read_text()
    assert run("--imatrix", toy.imatrix, "--html", page, "--json", folder / "other.json") == 1
    assert page.read_text() == text
    assert run("--imatrix", toy.imatrix, "--html", page) == 1
    assert "other.vsa.json: urn:quantmill:audit says FAILED (FAILED) of 2 of 2 files" in page.read_text()
    said = json.loads((folder / "other.vsa.json").read_text())
    said["subject"][0]["digest"]["sha256"] = "1" * 64
    (folder / "other.vsa.json").write_text(json.dumps(said))
    assert run("--sample", "50%", "--html", page) == 1
    assert "its digests are of another 'a.gguf' than the one here" in Page(page.read_text()).text
    capsys.readouterr()
    assert run("--html", folder / "a.gguf") == 2
    assert "cannot be what it writes" in capsys.readouterr().err
