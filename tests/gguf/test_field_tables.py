"""Our tables against those of the field's own package `gguf`: numbers, sizes, keys and names; and what verify says."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import gguf as package
import numpy as np
import pytest

import gguf_files
from convert_golden import models
from quantmill import gguf
from quantmill.architectures.checkpoint_tensors import tensors
from quantmill.architectures.description import describe
from quantmill.architectures.known import ARCHITECTURES, architecture
from quantmill.architectures.metadata_keys import FILE_TYPES
from quantmill.architectures.rope_scaling import Rope
from quantmill.checkpoint.general_keys import _PARENT_KEYS, _PARENTS
from quantmill.checkpoint.metadata import metadata
from quantmill.cli import main
from quantmill.gguf import ValueType, kv, layout, shards
from quantmill.gguf.known_names import unlisted
from quantmill.gguf.types import TYPES
from quantmill.imatrix import gguf_form
from quantmill.quant.file_plan import ImatrixFacts, plan_file
from quantmill.reference.ftypes import BY_NUMBER, FTYPES
from quantmill.reference.llama_cpp.b4867 import B4867
from quantmill.vocabulary import sentencepiece
from quantmill.vocabulary.entries import _FLAG_KEYS, _ID_KEYS

# What the package has and we have not, up to the numbers that it ended with when this was written; a later release of
# it may have more, and that is no fault here.
LAST_TYPE, LAST_FTYPE = 41, 40
UNWRITTEN_TYPES = {
    *("Q8_1", "Q8_K"),  # of activations, within a product of matrices; no file holds them
}
UNMADE_FTYPES = {
    "MOSTLY_NVFP4",  # which the converter alone writes
}
# What we have and the package has not.
KEYS_OF_THE_TOOLS = {
    # llama-quantize writes them and only people read them.
    *("quantize.imatrix.file", "quantize.imatrix.dataset"),
    *("quantize.imatrix.entries_count", "quantize.imatrix.chunks_count"),
}
FTYPE_NAMES = {"F32": "ALL_F32"}  # all others are of a type for the most part


def test_types_have_the_packages_numbers_and_sizes() -> None:
    theirs = {type_.name: (type_.value, *package.GGML_QUANT_SIZES[type_]) for type_ in package.GGMLQuantizationType}
    ours = {name: (type_.id, type_.block, type_.size) for name, type_ in TYPES.items()}
    del ours["Q2_0"]  # of llama.cpp, and not of the package yet
    assert ours.items() <= theirs.items()
    assert {name for name in theirs.keys() - ours.keys() if theirs[name][0] <= LAST_TYPE} <= UNWRITTEN_TYPES


def test_ftypes_have_the_packages_numbers() -> None:
    theirs = {ftype.name: ftype.value for ftype in package.LlamaFileType}
    # COPY keeps the file's own number; aliases and the field's `_L` names have their base's.
    own = {name: ftype for name, ftype in FTYPES.items() if ftype.base == name and name != "COPY"}
    assert all(ftype.id == FTYPES[ftype.base].id for ftype in FTYPES.values())
    ours = {FTYPE_NAMES.get(name, f"MOSTLY_{name}"): ftype.id for name, ftype in own.items()}
    newer = {"MOSTLY_Q2_0"} - theirs.keys()  # than the package
    assert {item for item in ours.items() if item[0] not in newer} <= theirs.items()
    # Beyond them is GUESSED, 1024, the loader's mark that no file has.
    assert {name for name in theirs.keys() - ours.keys() if theirs[name] <= LAST_FTYPE} <= UNMADE_FTYPES
    assert all(BY_NUMBER[number].name == name for name, number in FILE_TYPES.items())


def test_a_value_and_a_token_have_the_packages_types() -> None:
    assert {type_.name: type_.value for type_ in ValueType} == {
        type_.name: type_.value for type_ in package.GGUFValueType
    }
    assert {type_.name: type_.value for type_ in package.TokenType} == {
        type_.name: getattr(sentencepiece, type_.name) for type_ in package.TokenType
    }


def test_a_file_begins_as_the_package_says() -> None:
    assert package.GGUF_MAGIC.to_bytes(4, "little") == layout.MAGIC
    assert (layout.VERSION, layout.ALIGNMENT) == (package.GGUF_VERSION, package.GGUF_DEFAULT_ALIGNMENT)
    assert B4867.header.keys["general.quantization_version"][1] == package.GGML_QUANT_VERSION


def known_keys(owner: type = package.Keys) -> Iterator[str]:
    """Every key of the package, with `{arch}` and the like in it."""
    for value in vars(owner).values():
        if isinstance(value, type):
            yield from known_keys(value)
        elif isinstance(value, str) and "." in value and value != owner.__module__:
            yield value


def unknown(keys: set[str]) -> set[str]:
    """Those of the keys that the package has not."""
    patterns = [re.sub(r"\\{\w+\\}", r"\\w+", re.escape(key)) for key in known_keys()]
    return {key for key in keys if not any(re.fullmatch(pattern, key) for pattern in patterns)}


@pytest.mark.parametrize("name", models.MODELS)
def test_a_converted_models_keys_are_the_packages(name: str, tmp_path: Path) -> None:
    models.MODELS[name](tmp_path / name)
    files = {path.name: path for path in (tmp_path / name).iterdir() if path.suffix != ".safetensors"}
    entries = {entry.key: entry for entry in metadata(files, type="F16", name=name)}
    assert not unknown(set(entries))
    architecture = entries[package.Keys.General.ARCHITECTURE].value
    assert architecture in package.MODEL_ARCH_NAMES.values()
    scaling = entries.get(package.Keys.Rope.SCALING_TYPE.format(arch=architecture))
    assert scaling is None or package.RopeScalingType(scaling.value)
    assert entries[package.Keys.General.TYPE].value == package.GGUFType.MODEL


def test_every_other_key_is_the_packages() -> None:
    general = {f"general.{fact}" for fact in B4867.converter.general}
    parents = {f"general.{kind}.0.{key}" for kind in _PARENTS for key in _PARENT_KEYS}
    special = {f"tokenizer.ggml.{key}" for key in (*_ID_KEYS.values(), *_FLAG_KEYS.values(), "eot_token_id")}
    split = {shards.NO, shards.COUNT, shards.TENSORS}
    assert not unknown(general | parents | special | split | {"tokenizer.chat_template.tool_use"})
    assert package.RopeScalingType(Rope(1.0).scaling)


def test_a_quantized_files_keys_are_the_packages_and_the_tools_own(tmp_path: Path) -> None:
    models.MODELS["llama-spm-chat"](tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    planned = plan_file(B4867, *describe(config, "BF16"), "Q8_0", imatrix=ImatrixFacts("a", b"b", 1, 1))
    assert unknown({entry.key for entry in planned.kvs}) == KEYS_OF_THE_TOOLS


def test_an_imatrix_has_the_packages_keys(tmp_path: Path) -> None:
    sums = {"blk.0.attn_q.weight": (np.ones((1, 32), np.float32), np.ones(1, np.float32))}
    gguf_form.write(tmp_path / "imatrix.gguf", gguf_form.ImatrixFile(sums, (b"text",), 1, 512))
    with gguf.read(tmp_path / "imatrix.gguf") as file:
        assert file.metadata.keys() == {
            package.Keys.General.TYPE,
            *(value for key, value in vars(package.Keys.IMatrix).items() if key.isupper()),
        }
        assert file.metadata[package.Keys.General.TYPE].value == package.GGUFType.IMATRIX


def test_special_tokens_have_the_packages_names() -> None:
    keys = package.Keys.Tokenizer
    assert {kind: getattr(keys, f"{kind.upper()}_ID") for kind in _ID_KEYS} == {
        kind: f"tokenizer.ggml.{key}" for kind, key in _ID_KEYS.items()
    }
    assert {kind: getattr(keys, f"ADD_{kind.upper()}") for kind in _FLAG_KEYS} == {
        kind: f"tokenizer.ggml.{key}" for kind, key in _FLAG_KEYS.items()
    }


@pytest.mark.parametrize("name", models.MODELS)
def test_a_converted_models_tensors_are_the_packages(name: str, tmp_path: Path) -> None:
    models.MODELS[name](tmp_path / name)
    config = json.loads((tmp_path / name / "config.json").read_text())
    names = [spec.name for spec in tensors(config)]
    known = architecture(config).name
    assert unlisted(known, names) == []
    assert unlisted(known, ["blk.0.nothing.weight"]) == ["blk.0.nothing.weight"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_tensors_that_are_computed_with_are_the_packages(name: str) -> None:
    row = ARCHITECTURES[name]
    top = [line.name for line in row.top if line.placed]
    layer = [f"blk.10.{line.name}" for line in row.layer if line.placed]
    assert unlisted(name, [*top, *layer]) == []


def test_each_architecture_is_one_of_the_packages() -> None:
    names = {row.name for row in ARCHITECTURES.values() if row.classes}
    assert names == ARCHITECTURES.keys()
    assert names <= set(package.MODEL_ARCH_NAMES.values())


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("qwen3", "cls.output.weight"),
        ("qwen3vl", "cls.output.weight"),
        ("qwen35", "blk.2.nextn.eh_proj.weight"),
        ("exaone4", "blk.2.nextn.enorm.weight"),
        ("mimo2", "blk.2.layer_output_norm.weight"),
        ("nemotron_h_moe", "blk.2.post_attention_norm.weight"),
    ],
)
def test_what_newer_llama_cpps_take_is_listed(name: str, tensor: str) -> None:
    assert unlisted(name, [tensor]) == []
    assert unlisted("gpt2", [tensor]) == [tensor]


def test_a_pattern_is_the_whole_name() -> None:
    good = ["token_embd.weight", "blk.0.attn_q.bias", "blk.12.attn_q.weight", "rope_freqs.weight"]
    bad = ["token_embdx.weight", "blk.x.attn_q.weight", "blk.0.attn_q.weight.more", "x.blk.0.attn_q.weight", ""]
    assert unlisted("llama", [*good, *bad]) == bad
    assert unlisted("nothing-that-exists", bad) == []


def model(path: Path, *names: str, architecture: str = "falcon", kind: str | None = None) -> Path:
    entries = [kv("general.architecture", architecture), *([kv("general.type", kind)] if kind else [])]
    return gguf_files.write(path, [(name, (32,), TYPES["F32"]) for name in names], entries, zeros=True)


def verified(*arguments: str) -> int:
    """The exit code of `quantmill verify`."""
    with pytest.raises(SystemExit) as ended:
        main(["verify", *arguments])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_verify_names_what_the_package_does_not_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = model(tmp_path / "odd.gguf", "token_embd.weight", *(f"blk.0.odd_{number}.weight" for number in range(5)))
    assert verified(str(odd)) == 0
    whole, note = capsys.readouterr().out.splitlines()
    assert whole.endswith("6 tensors: whole")
    assert note.startswith("note: odd.gguf: the gguf package ")
    assert note.endswith(
        " lists no 'blk.0.odd_0.weight', 'blk.0.odd_1.weight', 'blk.0.odd_2.weight' and 2 more for 'falcon'; "
        "llama.cpp may refuse the file"
    )
    assert verified("--json", str(odd)) == 0
    assert "odd_0" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "architecture", "kind"),
    [
        ("blk.0.ffn_up.weight", "falcon", None),
        ("blk.0.odd.weight", "nothing-that-exists", None),
        ("blk.0.attn_q.weight.lora_a", "llama", "adapter"),
    ],
    ids=["listed", "unknown", "adapter"],
)
def test_verify_is_silent_where_the_package_says_nothing(
    name: str, architecture: str, kind: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verified(str(model(tmp_path / "file.gguf", name, architecture=architecture, kind=kind))) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_shards_are_taken_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = model(tmp_path / "whole.gguf", "token_embd.weight", "blk.0.odd.weight")
    first, _ = gguf.split(whole, tmp_path / "shards", "part", max_tensors=1)
    assert verified(str(first)) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "lists no 'blk.0.odd.weight' for" in line]
