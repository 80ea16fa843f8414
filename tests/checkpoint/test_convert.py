"""The convert step: whole files against llama.cpp's converter, and one sentence for everything that can be wrong."""

import hashlib
import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert_golden import models
from quantmill.architectures.checkpoint_tensors import tensors
from quantmill.architectures.known import CLASSES, listed
from quantmill.artifact import Artifact, Context
from quantmill.checkpoint import weights
from quantmill.checkpoint.metadata import metadata
from quantmill.checkpoint.weights import cast
from quantmill.cli import main
from quantmill.errors import QuantmillError, UsageError
from quantmill.gguf import header, read
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.steps import convert

DIGESTS = json.loads((Path(models.__file__).parent / "digests.json").read_text())
QWEN2 = "Qwen2.5-Tiny-7B-Instruct-v0.2"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name, build in models.MODELS.items():
        build(folder / name)
    return folder


def run(folder: Path, out: Path, context: Context | None = None, **params: Any) -> Path:
    """The step on a folder's files; returns model.gguf."""
    out.mkdir(exist_ok=True)
    inputs = {path.name: Artifact(path, "0" * 64, path.stat().st_size) for path in folder.iterdir()}
    convert.run(inputs, {"name": folder.name, **params}, out, context or Context())
    return out / "model.gguf"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("type_", models.TYPES)
@pytest.mark.parametrize("name", models.MODELS)
def test_the_file_is_the_converters(built: Path, tmp_path: Path, name: str, type_: str) -> None:
    assert digest(run(built / name, tmp_path, type=type_)) == DIGESTS[name][type_]


@pytest.mark.parametrize("name", [QWEN2, "Meta-Llama-3.1-8B-Instruct", "llama-spm-chat"])
@pytest.mark.parametrize("size", [4, 1000, 5000])
def test_chunks_decide_nothing(
    built: Path, tmp_path: Path, name: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "CHUNK", size)
    assert digest(run(built / name, tmp_path, type="BF16")) == DIGESTS[name]["BF16"]


def test_the_folders_name_decides_nothing(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built / QWEN2, tmp_path / "elsewhere")
    assert digest(run(tmp_path / "elsewhere", tmp_path / "out", name=f"some/{QWEN2}")) == DIGESTS[QWEN2]["BF16"]


@pytest.mark.parametrize("name", models.MODELS)
def test_the_header_is_known_without_weights(built: Path, tmp_path: Path, name: str) -> None:
    files = {path.name: path for path in (built / name).iterdir() if path.suffix != ".safetensors"}
    specs = tensors(json.loads(files["config.json"].read_text()))
    entries = metadata(files, type="F16", name=name, reference=B4867)
    described = [(spec.name, spec.shape, spec.type("F16")) for spec in specs]
    written = run(built / name, tmp_path, type="F16")
    with read(written) as file:
        assert list(file.metadata.values()) == entries
        assert {info.name: (info.shape, info.type) for info in file.tensors.values()} == {
            tensor: (shape, type_) for tensor, shape, type_ in described
        }
        assert len(header(entries, described)[0]) == file.data_offset
    if not name.endswith(("sharded", "shards")):  # there the index decides the order
        assert written.read_bytes().startswith(header(entries, described)[0])


def test_progress_counts_to_the_whole_file(built: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    written = run(built / QWEN2, tmp_path, Context(progress=lambda done, total: seen.append((done, total))))
    assert seen == sorted(seen)
    assert seen[-1] == (written.stat().st_size, written.stat().st_size)


def test_an_output_beside_tied_embeddings_is_written(built: Path, tmp_path: Path) -> None:
    folder = edited(built / QWEN2, tmp_path / "tied", tie_word_embeddings=True)
    with read(run(folder, tmp_path / "out")) as file:
        assert next(iter(file.tensors)) == "output.weight"


def test_a_weight_that_f16_does_not_hold_is_the_conversions_fault(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Written as the converter writes it, but named, and not called a damaged base when that is quantized."""
    folder = edited(built / "SmolLM2-135M", tmp_path / "model")
    name = "model.layers.0.mlp.down_proj.weight"
    found = {n: (t, np.full_like(values, 0x3F80)) for n, (t, values) in weights_of(folder).items()}
    values = found[name][1].copy()
    values.flat[7] = 0x47C3  # 99840
    models.save_safetensors(folder / "model.safetensors", {**found, name: ("BF16", values)})
    out = tmp_path / "out.gguf"
    for type_, told in {
        "F16": f"quantmill: {out}: blk.0.ffn_down.weight has weights that F16 does not hold (above 65504), which are "
        "infinite there; convert to BF16\n",
        "BF16": "",
    }.items():
        with pytest.raises(SystemExit) as ended:
            main(["convert", str(folder), str(out), "--type", type_])
        assert (ended.value.code, capsys.readouterr().err) == (0, told)
    run(folder, tmp_path / "step", type="F16")
    base = tmp_path / "step" / "model.gguf"
    with pytest.raises(QuantmillError) as error:
        quantize_file(base, tmp_path / "q.gguf", "COPY")
    assert str(error.value) == (
        f"{base}: blk.0.ffn_down.weight is infinite at weight 7, as weights above 65504 are in F16; "
        "convert the model to BF16 (`[base] type`)"
    )


def test_buffers_of_old_checkpoints_are_dropped(built: Path, tmp_path: Path) -> None:
    folder = edited(built / QWEN2, tmp_path / QWEN2)
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": ("F32", np.ones(8, "<f4"))}
    models.save_safetensors(folder / "model.safetensors", {**weights_of(folder), **more})
    assert digest(run(folder, tmp_path / "out")) == DIGESTS[QWEN2]["BF16"]


def edited(source: Path, folder: Path, **config: Any) -> Path:
    """A copy of a model with changes to config.json; a change to `...` removes the key."""
    shutil.copytree(source, folder)
    facts = json.loads((folder / "config.json").read_text()) | config
    kept = {key: value for key, value in facts.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(kept))
    return folder


def weights_of(folder: Path) -> dict[str, tuple[str, Any]]:
    data = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    facts = json.loads(data[8 : 8 + length])
    facts.pop("__metadata__")
    found = {}
    for name, fact in facts.items():
        begin, end = fact["data_offsets"]
        values = np.frombuffer(data[8 + length + begin : 8 + length + end], "<u2")
        found[name] = (fact["dtype"], values.reshape(fact["shape"]))
    return found


WRONG_CONFIGS: list[tuple[Mapping[str, Any], str]] = [
    (
        {"architectures": ["MambaForCausalLM"]},
        "config.json: the architecture 'MambaForCausalLM' cannot be converted; "
        f"{listed(CLASSES)} can, and any other is used as the GGUF file that llama.cpp's converter makes",
    ),
    ({"architectures": ...}, "config.json has no list `architectures` that begins with the model's class"),
    ({"hidden_size": ...}, "config.json lacks `hidden_size`, without which the tensors' shapes are not known"),
    ({"vocab_size": -1}, "config.json's `vocab_size` is -1; a positive whole number would be right"),
    ({"num_key_value_heads": 3}, "config.json has 4 attention heads, which 3 key-value heads do not divide"),
    ({"rope_scaling": "yarn"}, "config.json's `rope_scaling` is neither null nor a table"),
    ({"rope_theta": "high"}, "config.json's `rope_theta` is 'high'; a number would be right"),
    ({"rope_theta": 10**40}, f"config.json's `rope_theta` is {10**40}; a number would be right"),
    ({"vocab_size": 275}, "the tokenizer's token 'raw Ġ' has the id 275, but config.json's `vocab_size` is 275"),
    (
        {"num_hidden_layers": 3},
        "the safetensors files lack the tensor 'model.layers.2.input_layernorm.weight' and 11 "
        "more, which Qwen2ForCausalLM needs",
    ),
    (
        {"num_hidden_layers": 1},
        "the safetensors files hold a tensor 'model.layers.1.input_layernorm.weight', for which "
        "Qwen2ForCausalLM has no place",
    ),
    (
        {"intermediate_size": 95},
        "model.safetensors: the tensor 'model.layers.0.mlp.down_proj.weight' has shape "
        "[64, 96]; by config.json it should be [64, 95]",
    ),
]


@pytest.mark.parametrize(("change", "sentence"), WRONG_CONFIGS)
def test_a_wrong_config_is_said(built: Path, tmp_path: Path, change: Mapping[str, Any], sentence: str) -> None:
    change = {"vocab_size": 288, **change}
    folder = edited(built / QWEN2, tmp_path / QWEN2, **change)
    if change["vocab_size"] == 275:  # and fitting weights
        shapes = models.shapes_of(json.loads((folder / "config.json").read_text()), ("q", "k", "v"))
        tensors_ = {name: models.weight(name, shape, "BF16") for name, shape in shapes.items()}
        models.save_safetensors(folder / "model.safetensors", tensors_)
    with pytest.raises(QuantmillError) as error:
        run(folder, tmp_path / "out")
    assert str(error.value) == sentence
    assert list((tmp_path / "out").iterdir()) == []


def test_a_dtype_without_a_cast_is_said(built: Path, tmp_path: Path) -> None:
    folder = edited(built / QWEN2, tmp_path / QWEN2)
    found = weights_of(folder)
    found["model.norm.weight"] = ("I8", np.zeros(64, "i1"))
    models.save_safetensors(folder / "model.safetensors", found)
    with pytest.raises(QuantmillError) as error:
        run(folder, tmp_path / "out")
    assert str(error.value) == (
        "model.safetensors: the tensor 'model.norm.weight' is I8; BF16, F16, F32 and F64 can be converted"
    )


@pytest.mark.parametrize(
    ("removed", "sentence"),
    [
        ("config.json", "the model has no config.json; a model in Hugging Face layout has one"),
        (
            "tokenizer.json",
            "the model has neither tokenizer.model nor tokenizer.json; one of them is needed: copy it from the model "
            "that this one was made of, or save it there: tokenizer.save_pretrained(DIR)",
        ),
        (
            "model.safetensors",
            "the model has no weights: neither model.safetensors nor model.safetensors.index.json is among its files",
        ),
    ],
)
def test_a_missing_file_is_said(built: Path, tmp_path: Path, removed: str, sentence: str) -> None:
    folder = edited(built / QWEN2, tmp_path / QWEN2)
    (folder / removed).unlink()
    with pytest.raises(QuantmillError) as error:
        run(folder, tmp_path / "out")
    assert str(error.value) == sentence


def test_pickles_are_refused(built: Path, tmp_path: Path) -> None:
    folder = edited(built / QWEN2, tmp_path / QWEN2)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(QuantmillError, match=r"^pytorch_model.bin: weights as a pickle, which can run code"):
        run(folder, tmp_path / "out")


def test_the_command_does_not_write_over_the_weights(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = edited(built / QWEN2, tmp_path / QWEN2)
    weights = folder / "model.safetensors"
    before = weights.read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(folder), str(weights)])
    assert ended.value.code == 2
    said = "the call reads this file, so it cannot be what it writes; name another output"
    assert capsys.readouterr().err == f"quantmill: {weights}: {said}\n"
    assert weights.read_bytes() == before


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"type": "Q8_0"}, "convert cannot write the type 'Q8_0'; BF16, F16, F32 are possible"),
        ({"pre": "qwen2"}, "convert has no parameter 'pre'; it has type, name, pre_tokenizer"),
        ({"name": None}, "nothing names the model: the recipe's `[base] name` would"),
    ],
)
def test_a_wrong_call_is_said(built: Path, tmp_path: Path, params: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        run(built / QWEN2, tmp_path, **params)
    assert str(error.value) == sentence
    assert error.value.exit_code == 2


def test_a_chunk_is_bounded() -> None:
    spec = next(
        spec
        for spec in tensors(models.config("Qwen2ForCausalLM", "qwen2", hidden_size=5120) | {"vocab_size": 20000})
        if spec.name == "token_embd.weight"
    )
    data = np.zeros(20000 * 5120 * 2, np.uint8)
    weight = weights.Weight("model.embed_tokens.weight", "BF16", (20000, 5120), "model.safetensors", data)
    sizes = [chunk.nbytes for chunk in weights.chunks(spec, {}, {weight.name: weight}, "F32")]
    assert max(sizes) <= weights.CHUNK
    assert sum(sizes) == 20000 * 5120 * 4


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_casts_round_as_the_gguf_package_does(dtype: str) -> None:
    """Random bits: NaNs with payloads, denormals, ties and overflows are all among them."""
    import gguf

    random = np.random.default_rng(3)
    bits = random.integers(0, 2**32, (64, 256), dtype="u4")
    bits[:, ::3] = bits[:, ::3] & 0xFFFF0000 | random.choice([0x7FFF, 0x8000, 0x8001, 0], (64, 86))
    bits[0, :8] = [0x7F800001, 0xFFC00000, 0x7F800000, 0xFF800000, 0x7F7FFFFF, 1, 0x80000000, 0x7FFFFFFF]
    if dtype == "F32":
        values, floats = bits.view("<f4"), bits.view("<f4")
    elif dtype == "F16":
        values = (bits >> 16).astype("<u2").view("<f2")
        floats = values.astype("<f4")
    else:
        values = (bits >> 16).astype("<u2")
        floats = (bits & 0xFFFF0000).view("<f4")
    with np.errstate(over="ignore", invalid="ignore"):
        as_bf16 = gguf.quantize(floats, gguf.GGMLQuantizationType.BF16)
        as_f16 = floats.astype("<f2")
    if dtype != "BF16":  # a copy keeps even what rounding would quieten
        assert np.array_equal(cast(values, dtype, "BF16"), as_bf16.reshape(-1))
    assert np.array_equal(cast(values, dtype, "F16"), as_f16.reshape(-1).view(np.uint8))
    assert np.array_equal(cast(values, dtype, "F32"), floats.reshape(-1).view(np.uint8))
