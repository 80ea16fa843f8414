"""choose as a person calls it: for a recipe, a folder, this machine or another; what it reads of machines and files."""

import json
from pathlib import Path

import pytest

from projects import Project
from quantmill import gguf
from quantmill.choose import detect
from quantmill.choose.machine import machine, memories, memory, metal_limit
from quantmill.choose.shape import Shape, from_metadata
from quantmill.errors import UsageError
from quantmill.gguf import kv
from quantmill.gguf.head import leading_metadata
from quantmill.host import usable_memory
from quantmill.listing import parse_strangers, read_strangers
from quantmill.release.remote_offer import ftype_of, of_folder

MACHINE = ("--backend", "cuda", "--vram", "8", "--ram", "16GB")


def test_a_recipe_and_its_release_get_the_same_advice(project: Project) -> None:
    planned = json.loads(project.run("quantmill", "choose", "small", *MACHINE, "--json").stdout)
    assert planned["choice"]["file"] == "small-Q8_0.gguf"
    assert planned["choice"]["gpu_layers"] == 5
    assert planned["next"]["ftype"] == "Q4_K_M"
    assert planned["machine"] == {"backend": "cuda", "vram": [8_000_000_000], "ram": 16_000_000_000}
    project.run("doit")
    built = json.loads(project.run("quantmill", "choose", "release/small", *MACHINE, "--json").stdout)
    assert built == planned
    shard = project.folder / "shards"
    project.run("quantmill", "split", "release/small/small-Q8_0.gguf", "shards/small-Q8_0", "--max-size", "1MB")
    split = json.loads(project.run("quantmill", "choose", "shards", *MACHINE, "--json").stdout)
    assert split["choice"]["file"] == "small-Q8_0/"
    assert split["choice"]["vram_bytes"] == planned["choice"]["vram_bytes"]
    next(iter(sorted((shard / "small-Q8_0").iterdir()))).unlink()
    with pytest.raises(
        UsageError,
        match="shards: there are no GGUF files of a model in it; give a recipe, a release's folder or a Hub repository",
    ):
        of_folder(shard)


def test_what_a_person_reads(project: Project) -> None:
    text = project.run("quantmill", "choose", "small", *MACHINE, "--goal", "quality", "--context", "4096").stdout
    assert text == (
        "cuda, graphics memory 8.0 GB, main memory 16.0 GB, 4096 tokens of context, for quality\n"
        "\n"
        "small-bf16.gguf  7.42 MB\n"
        "  It is the best file that fits in graphics and main memory together.\n"
        "  All layers on the GPU (-ngl 5): 54.54 MB there and 1.05 MB in main memory, context and buffers included.\n"
        "  The model was made for 2048 tokens of context.\n"
        "\n"
        "next best: small-Q8_0.gguf  3.98 MB\n"
    )
    cpu = project.run("quantmill", "choose", "small", "--backend", "arm", "--ram", "4GB", "--vram", "0").stdout
    assert "  All on the processor (-ngl 0): " in cpu
    here = json.loads(project.run("quantmill", "choose", "small", "--json").stdout)
    assert here["machine"]["ram"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--vram", "lots"), "'lots' is not the memory of graphics cards: 'lots' is not a size; write it like 50GB"),
        (("--ram", "much"), "--ram: 'much' is not a size; write it like 50GB or 300MB"),
        (("--ram", "9" * 400), "--ram: a size is below 2^63 bytes; write it like 50GB or 300MB"),
        (
            ("--backend", "opencl"),
            "'opencl' is no backend; it is one of cuda, rocm, vulkan, metal, cpu-avx2, cpu-avx512",
        ),
        (("--backend", "metl", "--ram", "8"), "'metl' is no backend (did you mean metal?); it is one of "),
        (
            ("--backend", "cuda", "--vram", "0", "--ram", "8"),
            "the backend cuda needs the memory of a graphics card; give",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(project: Project, options: tuple[str, ...], message: str) -> None:
    failed = project.run("quantmill", "choose", "small", *options, check=2)
    assert failed.stderr.startswith(f"quantmill: {message}")
    assert failed.stderr.count("\n") == 1


def test_a_context_of_no_tokens(project: Project) -> None:
    said = project.run("quantmill", "choose", "small", "--context", "0", check=2).stderr.splitlines()
    assert said[-1] == "quantmill choose: error: argument --context: '0' is not a number from 1 on"


def test_memories() -> None:
    assert memories("24") == memories("24GB") == (24_000_000_000,)
    assert memories("2x80GB") == (80_000_000_000,) * 2
    assert memories("24GB, 8GiB") == (24_000_000_000, 8 << 30)
    assert memories("0") == ()
    assert memory("1.5") == 1_500_000_000


def test_what_is_left_for_a_model() -> None:
    assert machine("cuda", (8 * 10**9, 24 * 10**9, 80 * 10**9), 16 * 10**9).rooms == (
        7 * 10**9,
        22_800_000_000,
        78 * 10**9,
    )
    assert [machine("arm", (), gb * 10**9).room / 1e9 for gb in (2, 4, 8, 16, 64)] == [1.5, 3, 6, 14, 60]
    assert machine("metal", (), 16 * 10**9).vram == (10_666_666_666,)
    assert metal_limit(64 * 10**9) == 48 * 10**9
    assert machine("arm", (10**9,), 10**9).vram == ()
    with pytest.raises(UsageError, match="needs the memory of a graphics card"):
        machine("vulkan", (), 10**9)


def test_a_machine_is_read_from_its_files(tmp_path: Path) -> None:
    proc, sys = tmp_path / "proc", tmp_path / "sys"
    proc.mkdir()
    (proc / "meminfo").write_text("MemTotal:       16384 kB\nMemFree: 1 kB\n")
    assert usable_memory(proc, sys) == 16384 * 1024
    (sys / "fs" / "cgroup").mkdir(parents=True)
    (sys / "fs" / "cgroup" / "memory.max").write_text("max\n")
    assert usable_memory(proc, sys) == 16384 * 1024
    (sys / "fs" / "cgroup" / "memory.max").write_text("1048576\n")
    assert usable_memory(proc, sys) == 1048576
    for card, amount in (("card0", 512 << 20), ("card1", 16 << 30)):
        (sys / "class" / "drm" / card / "device").mkdir(parents=True)
        (sys / "class" / "drm" / card / "device" / "mem_info_vram_total").write_text(f"{amount}\n")
    assert detect.amd(sys) == (16 << 30,)
    (proc / "cpuinfo").write_text("flags : fpu avx2 avx512f\n")
    assert detect.processor(proc) in ("cpu-avx512", "arm")
    assert detect.detect(proc, sys).ram == 1048576


def test_nvidias_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for text, expected in (
        ("echo 24564; echo 8192", (24564 << 20, 8192 << 20)),
        ("echo no devices", ()),
        ("exit 9", ()),
    ):
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
        assert detect.nvidia() == expected


@pytest.mark.parametrize(
    ("stem", "ftype"),
    [
        ("Qwen_Qwen3-8B-Q4_K_M", "Q4_K_M"),
        ("a/b-bf16", "BF16"),
        ("llama-2-7b.Q5_0", "Q5_0"),
        ("m-IQ2_XXS", "IQ2_XXS"),
        ("m-UD-Q2_K_XL", None),
        ("m-i1-Q4_K_S", "Q4_K_S"),
        ("m-imatrix", None),
        ("mmproj-model", None),
        ("m-copy", None),
    ],
)
def test_ftypes_of_names(stem: str, ftype: str | None) -> None:
    assert ftype_of(stem) == ftype


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 10_000])
def test_json_that_is_none_says_nothing(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "release.json").write_bytes(data)
    assert parse_strangers(data) is read_strangers(tmp_path / "release.json") is None
    assert read_strangers(tmp_path) is read_strangers(tmp_path / "none") is None


def test_the_head_of_a_file_is_enough(tmp_path: Path) -> None:
    entries = [
        kv("general.architecture", "qwen2"),
        kv("general.tags", ["a", "bc"]),
        kv("qwen2.block_count", 4),
        kv("qwen2.embedding_length", 256),
        kv("qwen2.attention.head_count", 4),
        kv("qwen2.attention.head_count_kv", [2, 2, 2, 1]),
        kv("qwen2.feed_forward_length", 768),
        kv("tokenizer.ggml.tokens", ["a"] * 500),
        kv("general.file_type", 7),
    ]
    path = tmp_path / "m.gguf"
    with gguf.Writer(path, entries, []):
        pass
    data = path.read_bytes()
    found = leading_metadata(data)
    assert found["vocabulary"] == 500
    assert from_metadata(found) == Shape(4, 4, 2 * 2 * 64, 256, 768, 500, 0)
    assert "general.file_type" not in found
    for length in range(len(data)):  # wherever the network ends it
        part = leading_metadata(data[:length])
        assert part.items() <= found.items()
    assert leading_metadata(b"<html>") == {}
    for offset in (24, data.index(b"a", data.index(b"general.tags") + len("general.tags")) - 8):  # a key's, a text's
        assert leading_metadata(data[:offset] + b"\xff" * 8 + data[offset + 8 :]).items() <= found.items()
    assert from_metadata({"general.architecture": "x", "x.block_count": 1 << 40}) is None
