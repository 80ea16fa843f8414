"""Gemma 3 from a Hugging Face folder to a measured release: what its configuration may say, and the whole chain."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert_golden import models, vocabularies
from projects import TINY, Project
from quantmill.architectures.checkpoint_tensors import tensors
from quantmill.architectures.metadata_keys import facts
from quantmill.checkpoint.metadata import metadata
from quantmill.cli import main
from quantmill.errors import QuantmillError
from quantmill.gguf import read
from quantmill.imatrix import read as read_imatrix
from quantmill.recipe import page_params
from quantmill.recipe.lock import Lock
from quantmill.vocabulary.tokenizer import load

TEXT = models.config("Gemma3ForCausalLM", "gemma3_text", head_dim=32, sliding_window=24)

RECIPE = """
llama_cpp = "b5490"
prefix = "gemma"

[base]
path = "gemma"
name = "Gemma"

[quants]
matrix = ["BF16", "Q8_0", "Q4_K_M", "IQ3_XS"]

[calibration]
text = "calibration.txt"
n_ctx = 64

[evaluation]
text = "evaluation.txt"
n_ctx = 64
"""


def values(config: Mapping[str, Any]) -> dict[str, Any]:
    return {entry.key: entry.value for entry in facts(config, "BF16")}


def test_the_class_fills_in_what_its_configuration_leaves_out() -> None:
    """google/gemma-3-4b-it's config.json says no more than this of its text model."""
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34, "sliding_window": 1024}
    text |= {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    found = values(config)
    assert [found[f"gemma3.{key}"] for key in ("attention.head_count", "attention.head_count_kv")] == [8, 4]
    assert [found[f"gemma3.{key}"] for key in ("attention.key_length", "context_length")] == [256, 131072]
    assert [found[f"gemma3.rope.scaling.{key}"] for key in ("type", "factor")] == ["linear", 8.0]
    assert sum(spec.n_elements for spec in tensors(config)) == 3_880_263_168  # the model of "4B", without its images


def test_rope_parameters_say_the_same() -> None:
    """transformers 5 tells the layers' kinds apart."""
    new = TEXT | {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 2e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        }
    }
    old = TEXT | {"rope_theta": 2e6, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}
    assert values(new) == values(old)
    assert values(new)["gemma3.rope.freq_base"] == 2e6


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"final_logit_softcapping": 30.0}, "config.json's `final_logit_softcapping` is 30.0; gemma3 has none"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2}}, "gemma3 has linear, with a `factor`"),
        ({"rope_scaling": {"rope_type": "linear"}}, "gemma3 has linear, with a `factor`"),
        ({"sliding_window": None}, "config.json's `sliding_window` is None; a positive whole number would be right"),
    ],
)
def test_a_configuration_that_gguf_cannot_say_is_refused(change: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(QuantmillError) as error:
        values({**TEXT, **change})
    assert sentence in str(error.value)


def test_without_tokenizer_model_there_is_no_vocabulary(tmp_path: Path) -> None:
    files = {"config.json": json.dumps(TEXT), "tokenizer.json": json.dumps(vocabularies.spm_json())}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(QuantmillError) as error:
        metadata({name: tmp_path / name for name in files}, name="Gemma")
    assert str(error.value) == (
        "the model has no tokenizer.model, the only file that gemma3's vocabulary is made of; "
        "take that of the model that it was tuned from"
    )


def project(folder: Path) -> Project:
    """A model of six layers, the last of which sees the whole text, random but finite, and texts to measure it on."""
    (folder / "recipes").mkdir(parents=True)
    config = TEXT | {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 6, "query_pre_attn_scalar": 32}
    shapes = models.gemma3_shapes(config)
    model = folder / "recipes" / "gemma"
    models.write(model, config, "BF16", models.gemma3_files(), shapes)
    random = np.random.Generator(np.random.PCG64(5))
    weights = {}
    for name, shape in shapes.items():
        drawn = random.integers(-(2**15), 2**15, shape).astype("<f4") * np.float32(2**-19 if len(shape) > 1 else 2**-17)
        weights[name] = ("BF16", (drawn.view("<u4") >> 16).astype("<u2"))
    models.save_safetensors(model / "model.safetensors", weights)
    (folder / "recipes" / "small.toml").write_text(RECIPE)
    (folder / "recipes" / "calibration.txt").write_text((TINY / "calibration.txt").read_text()[:700])
    (folder / "recipes" / "evaluation.txt").write_text((TINY / "evaluation.txt").read_text()[:400])
    shutil.copy(TINY.parent.parent / "dodo.py", folder / "dodo.py")
    return Project(folder)


def test_a_release_of_a_folder(tmp_path: Path) -> None:
    built = project(tmp_path / "p")
    built.run("quantmill", "build", "small")
    release = built.release()
    quality = {file["ftype"]: file.get("quality") for file in json.loads(release["release.json"])["files"]}
    assert 0 < quality["Q8_0"]["kld"]["mean"] < quality["Q4_K_M"]["kld"]["mean"] < quality["IQ3_XS"]["kld"]["mean"]
    folder = built.folder / "release" / "small"
    matrix = read_imatrix(folder / "gemma.imatrix")
    assert len(matrix.vectors) == 6 * 7
    with read(folder / "gemma-IQ3_XS.gguf") as file:
        assert file.metadata["gemma3.attention.sliding_window"].value == 24
        assert file.metadata["quantize.imatrix.entries_count"].value == 6 * 7
        assert file.tensors["blk.3.post_ffw_norm.weight"].type.name == "F32"
    of_file, of_folder = (load(path) for path in (folder / "gemma-Q8_0.gguf", built.folder / "recipes" / "gemma"))
    said = "the note\n\n  \u65e5\u672c<start_of_turn>x"
    assert of_file.encode(said) == of_folder.encode(said)
    assert (of_file.encode(said)[0], of_file.add_bos) == (2, True)


def test_a_folder_and_its_file_are_measured_alike(tmp_path: Path) -> None:
    folder = project(tmp_path / "p").folder / "recipes"
    with pytest.raises(SystemExit) as ended:
        main(["convert", str(folder / "gemma"), str(tmp_path / "g.gguf")])
    assert ended.value.code == 0
    found = []
    for model in (folder / "gemma", tmp_path / "g.gguf"):
        text = ["-f", str(folder / "calibration.txt"), "--n-ctx", "64", "--chunks", "2"]
        with pytest.raises(SystemExit) as ended:
            main(["imatrix", str(model), *text, "-o", str(tmp_path / "i.dat")])
        assert ended.value.code == 0
        found.append((tmp_path / "i.dat").read_bytes())
    assert found[0] == found[1]


def test_a_page_and_a_choice_know_the_text_models_shape() -> None:
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    found = page_params.shape(Lock({"repo": "x/y", "revision": "main"}, {}, config, None))
    assert found is not None
    assert (found["layers"], found["heads"], found["vocabulary"]) == (34, 8, 262208)
    assert found["cache"] == 2 * 4 * 256
