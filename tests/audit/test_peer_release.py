"""Releases of 26 files that llama-quantize of several tags made: every one is the same, its ftype and span found.

Our quantizer writes them here, to the digests that the tags' own libraries gave. Where `QUANTMILL_TEST_LIBRARIES` names
such libraries, as `b5590=FOLDER:b8305=FOLDER`, they write them.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer_release.record import DIGESTS, MODELS, calls, digest, ours
from quantmill import gguf
from quantmill.admission.conformance import OPTIONS, Call, write
from quantmill.admission.library import Library, form_of
from quantmill.audit.file_audit import AuditOptions, audit_file
from quantmill.audit.verdict import FileVerdict
from quantmill.reference.ftypes import FTYPES
from quantmill.reference.reference import Reference
from quantmill.reference.spans import of_tag

RECORDED: dict[str, dict[str, str]] = json.loads(DIGESTS.read_text())
NAMED = "QUANTMILL_TEST_LIBRARIES"
LIBRARIES = dict(word.split("=", 1) for word in os.environ.get(NAMED, "").split(":") if word)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        write(folder, name)
    return folder


def audited(call: Call, base: Path, path: Path, tag: str) -> FileVerdict:
    """The file of a call, which must be found to be what it is; some as shards."""
    if call.ftype in ("Q8_0", "Q4_K_L", "IQ2_XS"):
        path = gguf.split(path, path.parent / "shards", "file", max_tensors=5)[0]
    found = audit_file(path, base, AuditOptions(base.with_suffix(".imatrix") if call.guided else None))
    assert found.word == "same", call
    assert {tensor.word for tensor in found.tensors} == {"same"}, call
    assert of_tag(tag) in found.spans, call
    assert found.mix is not None
    options = OPTIONS[call.options]
    ftype = found.mix.split()[3]
    assert FTYPES[ftype].base == FTYPES[call.ftype].base, (call, found.mix)
    if not options and call.model == "nasty":  # else an ftype whose blocks no row holds may have the types of its _L
        assert ftype == call.ftype
    tied = {"leave_output_tensor"} if call.model == "smollm2" else set()  # it has no output matrix to leave
    assert ("with --" in found.mix) == bool(options.keys() - tied), (call, found.mix)
    assert ("with --pure" in found.mix) == ("pure" in options)
    for path in base.parent.glob("shards/*"):
        path.unlink()
    return found


def check(tag: str, base: Path, files: Iterator[tuple[Call, Path]]) -> set[Reference]:
    """The spans of all files of a release."""
    verdicts = [audited(call, base, path, tag) for call, path in files]
    assert len(verdicts) == 26
    return set.intersection(*(set(verdict.spans) for verdict in verdicts))


@pytest.mark.parametrize("tag", RECORDED)
@pytest.mark.parametrize("model", MODELS)
def test_releases_of_several_spans_are_the_same(models: Path, model: str, tag: str) -> None:
    base, out = models / f"{model}.gguf", models / "out.gguf"

    def files() -> Iterator[tuple[Call, Path]]:
        for call in calls(model):
            assert digest(ours(call, tag, base, out)) == RECORDED[tag][str(call)]
            yield call, out

    spans = check(tag, base, files())
    assert of_tag(tag) in spans
    if model == "nasty":  # which tells arithmetics apart
        assert not {of_tag(other) for other in RECORDED if other != tag} & spans


@pytest.mark.skipif(not LIBRARIES, reason=f"needs {NAMED}")
@pytest.mark.parametrize("tag", LIBRARIES)
@pytest.mark.parametrize("model", MODELS)
def test_the_librarys_own_files_are_the_same(models: Path, model: str, tag: str) -> None:
    base, out, library = models / f"{model}.gguf", models / "out.gguf", Library(Path(LIBRARIES[tag]), form_of(tag))

    def files() -> Iterator[tuple[Call, Path]]:
        for call in calls(model):
            assert library.answer(call, base, out), call
            yield call, out

    try:
        assert of_tag(tag) in check(tag, base, files())
    finally:
        library.close()
