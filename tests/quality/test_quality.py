"""Quality: statistics, predictions against the base, tensors' errors, gates, overlapping texts."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from forward_models import MODELS, VOCABULARY, write
from projects import GOLDEN, ROOT, TINY
from quantmill import gguf, statistics
from quantmill.architectures.errors import ForwardError
from quantmill.artifact import Context, silent
from quantmill.checkpoint.conversion import convert
from quantmill.cli import main
from quantmill.engine.chunks import Text, read_text, tokenize
from quantmill.engine.evaluation import Run, evaluate, open_model
from quantmill.errors import QuantmillError
from quantmill.quality import gates, tensor_errors
from quantmill.quality.base_predictions import REPORT, STATES, TOKENS, save
from quantmill.quality.divergence import compare
from quantmill.quality.errors import QualityError
from quantmill.quality.measurement import against_stored
from quantmill.quality.overlap import PASSAGE, shared_passage
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.runtime.loader import load as load_model
from quantmill.vocabulary.tokenizer import load

EVALUATION = ROOT / "recipes" / "tiny" / "evaluation.txt"
CHUNKS = 6
# llama-perplexity of b5490, `--chunks 6` over recipes/tiny/evaluation.txt; the base as F32, the others expanded to F32
# by llama-quantize, so that its activations are not rounded to 8 bits; top-1 and delta-p RMS in percent.
PEER = json.loads((GOLDEN / "peer_quality.json").read_text())


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    files = {path.name: path for path in TINY.iterdir() if path.suffix in (".json", ".safetensors")}
    convert(files, folder / "model.gguf", "BF16", "Tiny", None, Context(threads=2, progress=silent))
    return folder / "model.gguf"


@pytest.fixture(scope="module")
def stored(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stored")
    tokens = tokenize([Text("text", read_text(EVALUATION))], load(base), 512, count=CHUNKS)
    with open_model(base) as model, evaluate(model, tokens, Run(threads=2)) as hidden:
        save(hidden, tokens, {"chunks": CHUNKS}, folder)
    return folder


def quantized(base: Path, folder: Path, ftype: str) -> Path:
    quantize_file(base, folder / f"{ftype}.gguf", ftype, reference=B4867, threads=2)
    return folder / f"{ftype}.gguf"


def test_the_base_is_measured_as_llama_perplexity_does(stored: Path) -> None:
    report = json.loads((stored / REPORT).read_text())
    assert report["tokens"] == CHUNKS * 255
    assert report["perplexity"] == pytest.approx(PEER["BF16"]["perplexity"], rel=1e-4)
    assert report["perplexity_error"] == pytest.approx(PEER["BF16"]["perplexity_error"], rel=1e-3)


@pytest.mark.parametrize("ftype", ["Q8_0", "Q4_K_M"])
def test_a_file_is_measured_as_llama_perplexity_does(base: Path, stored: Path, tmp_path: Path, ftype: str) -> None:
    found = against_stored(
        base, stored / STATES, stored / TOKENS, quantized(base, tmp_path, ftype), Run(threads=2), ftype
    )
    peer = PEER[ftype]
    assert found["perplexity"] == pytest.approx(peer["perplexity"], rel=2e-4)
    assert found["kld"]["mean"] == pytest.approx(peer["mean"], rel=0.02)
    assert found["kld"]["median"] == pytest.approx(peer["median"], rel=0.03)
    assert found["kld"]["p999"] == pytest.approx(peer["p999"], rel=0.03)
    assert found["top1"] * 100 == pytest.approx(peer["top1"], abs=0.2)
    assert found["delta_p_rms"] * 100 == pytest.approx(peer["delta_p_rms"], rel=0.02)
    share = peer["top1"] / 100  # llama-perplexity's own error of a share
    assert found["top1_error"] == pytest.approx(math.sqrt(share * (1 - share) / (CHUNKS * 255 - 1)), rel=0.05)
    assert list(found["kld"].values())[1:] == sorted(list(found["kld"].values())[1:])


def test_threads_and_memory_change_nothing(base: Path, stored: Path, tmp_path: Path) -> None:
    file = quantized(base, tmp_path, "Q4_0")
    runs = [Run(threads=1), Run(threads=3), Run(threads=2, memory=500_000_000)]
    found = [against_stored(base, stored / STATES, stored / TOKENS, file, run, "Q4_0") for run in runs]
    assert found[0] == found[1] == found[2]
    assert found[0]["tensors"]["blk.0.ffn_up.weight"] == pytest.approx(0.08, abs=0.03)


@dataclass
class Given:
    """Predictions that are simply there."""

    values: NDArray[np.float32]  # (chunks, rows, vocabulary)

    @property
    def chunks(self) -> int:
        return self.values.shape[0]

    @property
    def rows(self) -> int:
        return self.values.shape[1]

    def logits(self, first: int, last: int) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.values[first:last].reshape(-1, self.values.shape[2]))


def test_bits_a_weight_are_the_ftypes(base: Path, stored: Path, tmp_path: Path) -> None:
    assert tensor_errors.bits(base) == pytest.approx(16, abs=0.1)
    assert tensor_errors.bits(quantized(base, tmp_path, "Q8_0")) == pytest.approx(8.5, abs=0.1)


def test_compare_equals_the_formulas() -> None:
    random = np.random.default_rng(5)
    base = random.standard_normal((3, 7, 50)).astype(np.float32) * 3
    other = base + random.standard_normal(base.shape).astype(np.float32) * np.float32(0.3)
    targets = random.integers(0, 50, (3, 7)).astype(np.int32)
    told: list[tuple[int, int]] = []
    found = compare(Given(base), Given(other), targets, 2, lambda done, total: told.append((done, total)))
    p, q = (x.astype(np.float64) - np.log(np.exp(x.astype(np.float64)).sum(-1, keepdims=True)) for x in (base, other))
    kld = np.sort((np.exp(p) * (p - q)).sum(-1).ravel())
    at = np.take_along_axis
    ours, theirs = (at(x, targets[..., None].astype(np.int64), -1).ravel() for x in (q, p))
    assert found.perplexity == pytest.approx(np.exp(-ours.mean()), rel=1e-6)
    assert found.perplexity_error == pytest.approx(np.exp(-ours.mean()) * ours.std() / math.sqrt(20), rel=1e-6)
    assert found.kld["mean"] == pytest.approx(kld.mean(), rel=1e-5)
    assert found.kld["p90"] == pytest.approx(np.percentile(kld, 90), rel=1e-5)
    assert found.kld["max"] == pytest.approx(kld[-1], rel=1e-5)
    assert found.kld_error == pytest.approx(kld.std() / math.sqrt(20), rel=1e-5)
    same = base.argmax(-1) == other.argmax(-1)
    assert found.top1 == same.mean()
    assert found.top1_error == pytest.approx(same.std() / math.sqrt(20), rel=1e-9)
    assert found.delta_p_mean == pytest.approx((np.exp(ours) - np.exp(theirs)).mean(), rel=1e-4)
    assert found.delta_p_rms == pytest.approx(np.sqrt(((np.exp(ours) - np.exp(theirs)) ** 2).mean()), rel=1e-6)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_model_is_its_own_best_copy() -> None:
    values = np.random.default_rng(6).standard_normal((2, 4, 30)).astype(np.float32)
    found = compare(Given(values), Given(values), np.zeros((2, 4), np.int32), 1, silent)
    assert (found.kld["mean"], found.kld["max"], found.top1, found.delta_p_rms) == (0, 0, 1, 0)


def test_logits_that_are_not_finite_are_refused() -> None:
    values = np.zeros((2, 4, 30), np.float32)
    broken = values.copy()
    broken[1, 2, 3] = np.inf
    with pytest.raises(
        QualityError, match=r"^chunk 1 of the text: logits are not finite; a weight or a scale is damag"
    ):
        compare(Given(values), Given(broken), np.zeros((2, 4), np.int32), 1, silent)


def test_numbers() -> None:
    assert [statistics.exp(x) for x in (0.0, 1.0, -745.0)] == [1.0, math.e, 5e-324]
    assert statistics.percentile([1.0], 0.9) == 1.0
    assert statistics.percentile([1.0, 2.0, 4.0], 0.75) == 3.0
    assert statistics.perplexity([2.0, 2.0]) == (statistics.exp(2.0), 0.0)
    assert statistics.perplexity([1.0])[1] == 0.0
    assert statistics.mean([1e100, 1.0, -1e100]) == pytest.approx(1 / 3)
    assert statistics.rounded(0.00123456789) == 0.00123457
    with pytest.raises(QuantmillError, match=r"^the text's tokens lose 1e\+07 nats each, and no number is as large"):
        statistics.perplexity([1e7])


def changed(base: Path, file: Path, name: str, value: float | None) -> Path:
    """The base with every weight of a tensor set to `value`, or with one column less."""
    with gguf.read(base) as opened:
        described = [
            (
                info.name,
                (info.shape[0] - 32, *info.shape[1:]) if value is None and info.name == name else info.shape,
                info.type,
            )
            for info in opened.tensors.values()
        ]
        with gguf.Writer(file, opened.metadata.values(), described) as writer:
            for (key, shape, type_), info in zip(described, opened.tensors.values(), strict=True):
                raw = opened.data(info)
                if key == name and value is None:
                    raw = raw[: math.prod(shape[1:]) * type_.row_bytes(shape[0])]
                elif key == name:
                    raw = (
                        (np.full(math.prod(shape), value, np.float32).view(np.uint32) >> 16)
                        .astype(np.uint16)
                        .view(np.uint8)
                    )
                writer.append(raw)
    return file


def test_a_file_of_another_shape_is_refused(base: Path, stored: Path, tmp_path: Path) -> None:
    with gguf.read(base) as opened:
        rows, columns = opened.tensors["blk.1.ffn_up.weight"].shape[::-1]
    file = changed(base, tmp_path / "other.gguf", "blk.1.ffn_up.weight", None)
    with pytest.raises(QualityError) as caught:
        against_stored(base, stored / STATES, stored / TOKENS, file, Run(), "other.gguf")
    assert str(caught.value) == (
        f"other.gguf: blk.1.ffn_up.weight is {columns - 32} x {rows}, and {columns} x {rows} in its base; "
        "compare files of one model"
    )


def test_a_weight_that_is_no_number_is_named(base: Path, stored: Path, tmp_path: Path) -> None:
    file = changed(base, tmp_path / "nan.gguf", "blk.1.ffn_up.weight", math.nan)
    with pytest.raises(
        ForwardError, match=r"^nan.gguf: row 0 of blk\.1\.ffn_up\.weight has a weight that is not finite"
    ):
        against_stored(base, stored / STATES, stored / TOKENS, file, Run(), "nan.gguf")


def test_tensors_errors(base: Path, tmp_path: Path) -> None:
    file = quantized(base, tmp_path, "Q4_0")
    found = tensor_errors.errors(base, file, "Q4_0")
    with gguf.read(base) as ours, gguf.read(file) as theirs:
        assert set(found) == {n for n, info in ours.tensors.items() if theirs.tensors[n].type is not info.type}
    assert (
        found["blk.0.ffn_down.weight"]
        > 5 * tensor_errors.errors(base, quantized(base, tmp_path, "Q8_0"), "Q8_0")["blk.0.ffn_down.weight"]
    )
    assert tensor_errors.errors(base, base, "base") == {}


class OnBlocks:
    """A chunk's predictions on quantized kernels; a compare.Predictions."""

    chunks, rows = 1, 255

    def __init__(self, file: Path, tokens: np.ndarray) -> None:
        self._logits = load_model(file, context=512, threads=2).evaluate(tokens[0], 0, every=True)[256:511]

    def logits(self, first: int, last: int) -> np.ndarray:
        return np.ascontiguousarray(self._logits)


@pytest.mark.parametrize("ftype", ["Q8_0", "Q6_K", "Q4_K_M", "IQ4_XS", "IQ3_M"])
def test_quantized_kernels_add_less_than_a_fiftieth_of_a_files_divergence(
    base: Path, tmp_path: Path, ftype: str
) -> None:
    tokens = tokenize([Text("text", read_text(EVALUATION))], load(base), 512, count=1)
    file, run = quantized(base, tmp_path, ftype), Run(threads=2)
    with (
        open_model(base) as model,
        evaluate(model, tokens, run) as original,
        open_model(file) as small,
        evaluate(small, tokens, run) as exact,
    ):
        targets = exact.targets(0, 1).reshape(1, -1)
        own, found = (
            compare(a, b, targets, 2, silent).kld["mean"]
            for a, b in ((original, exact), (exact, OnBlocks(file, tokens)))
        )
    assert 0 <= found < 0.02 * own


def test_ten_tokens_are_too_few(base: Path) -> None:
    with pytest.raises(
        ForwardError, match=r"^text: its \d+ tokens are too few; at least 1024 are needed, two chunks of 512$"
    ):
        tokenize([Text("text", "ten tokens or so, and no more.")], load(base), 512)


@pytest.fixture(scope="module")
def words() -> str:
    return " ".join(str(i * i) for i in range(400))


def test_overlap_finds_a_passage_whatever_its_white_space(words: str) -> None:
    assert shared_passage(words, "other text " * 50) is None
    found = shared_passage(words, "before it\n" + words[900:1600].replace(" ", "\n  ") + " after")
    assert found is not None
    assert len(found) == PASSAGE
    assert found in words
    assert shared_passage("short one", "a short  one here") == "short one"
    assert shared_passage("", "anything") is None


QUALITY = {"kld": {"mean": 0.02}, "top1": 0.9}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            {"max_kld": 0.01},
            "f: its mean KL divergence to the base is 0.02, and the recipe's max_kld is 0.01; leave the ftype out, "
            "give more bits to some tensors, or allow more",
        ),
        (
            {"min_top1": 0.95},
            "f: it agrees with the base on 0.9 of the most likely tokens, and the recipe's min_top1 is 0.95; leave the "
            "ftype out, give more bits to some tensors, or allow less",
        ),
        (
            {"no_fallback": True},
            "f: blk.0.x is of another type than the ftype's, for its rows are not whole blocks, and the recipe's "
            "no_fallback forbids it; leave the ftype out or choose the tensor's type yourself",
        ),
    ],
)
def test_gates(asked: dict[str, object], message: str) -> None:
    with pytest.raises(QualityError) as caught:
        gates.check("f", asked, QUALITY, ["blk.0.x"])
    assert str(caught.value) == message
    gates.check("f", {"max_kld": 0.02, "min_top1": 0.9, "no_fallback": True}, QUALITY, [])
    gates.check("f", {"max_kld": 0.01}, {"perplexity": 5.0}, [])  # the base's own file


def test_a_base_of_another_vocabulary_is_told(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write(MODELS["llama-bias"], tmp_path / "other.gguf")
    text = tmp_path / "text.txt"
    text.write_text("some words of a text, again and again. " * 200)
    with pytest.raises(SystemExit) as ended:
        main(["perplexity", str(base), "-f", str(text), "--base", str(other)])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"quantmill: {other}: its vocabulary has {VOCABULARY} tokens and that of {base} 2048; "
        "compare files of one model\n"
    )


def test_a_base_of_another_tokenizer_of_the_same_size_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a token of another text, and by other tokens of the same text."""
    model = write(MODELS["qwen2"], tmp_path / "model.gguf")
    with gguf.read(model) as file:
        entries, tensors = dict(file.metadata), file.tensor_entries()
        data = [file.data(info).copy() for info in file.tensors.values()]
    tokens = list(entries["tokenizer.ggml.tokens"].value)
    tokens[ord("x")], tokens[ord("y")] = tokens[ord("y")], tokens[ord("x")]
    text = tmp_path / "text.txt"
    text.write_text("some words of a text, again and again. " * 200)
    for changes, message in [
        ({"tokens": tokens}, f"its token 120 is 'y', that of {model} 'x'"),
        ({"add_bos_token": True}, f"makes other tokens of the text than {model}"),
    ]:
        other = tmp_path / "other.gguf"
        keys = {f"tokenizer.ggml.{key}": gguf.kv(f"tokenizer.ggml.{key}", value) for key, value in changes.items()}
        with gguf.Writer(other, (entries | keys).values(), tensors) as writer:
            for each in data:
                writer.append(each)
        with pytest.raises(SystemExit) as ended:
            main(["perplexity", str(model), "-f", str(text), "--base", str(other), "--n-ctx", "64", "--chunks", "2"])
        assert ended.value.code == 2, changes
        assert capsys.readouterr().err.startswith(f"quantmill: {other}: {message}"), changes


def test_ones_at_the_end_of_a_shape_are_none(tmp_path: Path) -> None:
    """Converters write a norm of one group as 512 x 1, and llama-quantize makes 512 of it."""
    from gguf import GGUFWriter

    for name, shape in (("base", (1, 512)), ("file", (512,)), ("other", (2, 256))):
        writer = GGUFWriter(tmp_path / f"{name}.gguf", "mamba")
        writer.add_tensor("blk.0.ssm_norm.weight", np.ones(shape, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    assert tensor_errors.errors(tmp_path / "base.gguf", tmp_path / "file.gguf", "file") == {}
    with pytest.raises(QualityError, match="is 256 x 2, and 512 x 1 in its base"):
        tensor_errors.errors(tmp_path / "base.gguf", tmp_path / "other.gguf", "other")
