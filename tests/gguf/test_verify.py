"""verify: every block's numbers, planned types, ends of files, shards; and a report that only the bytes decide."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gguf as package
import numpy as np
import pytest

import gguf_files
from quantmill import gguf
from quantmill.artifact import Artifact, Context
from quantmill.gguf import kv, scales, verification
from quantmill.gguf.layout import TensorEntry
from quantmill.gguf.scales import first_broken
from quantmill.gguf.types import TYPES
from quantmill.steps import verify as step

# Where ggml-common.h puts the fp16 numbers of a block: written down here from the structs a second time, and compared
# with the gguf package's own dequantization below.
HALVES = {
    **dict.fromkeys(("Q1_0", "Q2_0"), (0,)),
    **dict.fromkeys(("Q4_0", "Q5_0", "Q8_0", "IQ4_NL", "IQ4_XS"), (0,)),
    **dict.fromkeys(("IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"), (0,)),
    **dict.fromkeys(("Q4_1", "Q5_1", "Q4_K", "Q5_K"), (0, 2)),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q6_K": (208,),
    "TQ1_0": (52,),
    "TQ2_0": (64,),
    "F16": (0,),
}
INFINITE, NAN = b"\x00\x7c", b"\x01\xfe"


def blocks(name: str, count: int) -> np.ndarray:
    """`count` blocks whose bits are all ones but for a sound number wherever one is stored."""
    type_ = TYPES[name]
    data = np.full((count, type_.size), 0xFF, np.uint8)
    for at in HALVES[name]:
        data[:, at : at + 2] = 0xFF, 0x7B  # 65504, the largest fp16
    return data


@pytest.mark.parametrize("name", HALVES)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_fp16_of_every_block_is_looked_at(name: str, count: int) -> None:
    sound = blocks(name, count)
    assert first_broken(TYPES[name], sound.reshape(-1)) is None
    for number, at in enumerate(HALVES[name]):
        for block in range(count):
            for bad in (INFINITE, NAN):
                broken = sound.copy()
                broken[block:, at : at + 2] = list(bad)
                assert first_broken(TYPES[name], broken.reshape(-1)) == (block, scales.FIELDS[name][number].name)


@pytest.mark.parametrize("name", [name for name in HALVES if name not in ("F16", "Q1_0", "Q2_0")])
def test_the_places_agree_with_the_gguf_packages_dequantization(name: str) -> None:
    for at in HALVES[name]:
        data = blocks(name, 1)
        data[:] = 1
        for other in HALVES[name]:
            data[:, other : other + 2] = 0
        data[:, at : at + 2] = list(INFINITE)
        with np.errstate(all="ignore"):
            weights = package.quants.dequantize(data, package.GGMLQuantizationType[name])
        assert not np.isfinite(weights).any()


@pytest.mark.parametrize(("name", "code"), [("F32", "<f4"), ("F64", "<f8"), ("F16", "<f2")])
def test_the_first_weight_that_is_no_number_is_found(name: str, code: str) -> None:
    values = np.array([0, -1, np.finfo(code).max, np.finfo(code).tiny, -0.0, 1], code)
    assert first_broken(TYPES[name], values.view(np.uint8)) is None
    for bad in (np.inf, -np.inf, np.nan):
        values[3] = bad
        assert first_broken(TYPES[name], values.view(np.uint8)) == (3, "weight")


def test_bf16_integers_mxfp4_and_iq1_m() -> None:
    bf16 = np.array([0x7F7F, 0x0000, 0xFF80, 0x7F80], "<u2").view(np.uint8)
    assert first_broken(TYPES["BF16"], bf16) == (2, "weight")
    for name in ("I8", "I16", "I32", "I64", "NVFP4"):
        assert first_broken(TYPES[name], np.full(144, 0xFF, np.uint8)) is None
    mxfp4 = np.full((3, 17), 0xFE, np.uint8)
    assert first_broken(TYPES["MXFP4"], mxfp4.reshape(-1)) is None
    mxfp4[2, 0] = 0xFF
    assert first_broken(TYPES["MXFP4"], mxfp4.reshape(-1)) == (2, "e")
    for half in (0x7BFF, 0x83FF, 0x7C00, 0xFE01):  # the last two are infinite and no number
        iq1_m = np.full((2, 56), 0xFF, np.uint8)
        for word in range(4):
            iq1_m[:, 49 + 2 * word] = 0x0F | (half >> 4 * word & 0xF) << 4
        expected = (0, "scales") if half in (0x7C00, 0xFE01) else None
        assert first_broken(TYPES["IQ1_M"], iq1_m.reshape(-1)) == expected


def test_every_type_has_its_fields() -> None:
    assert scales.FIELDS.keys() == TYPES.keys()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def tensors() -> list[TensorEntry]:
    found = (("norm", (8,), "F32"), ("w", (256, 3), "Q4_K"), ("e", (64, 2), "Q8_0"))
    return [TensorEntry(name, shape, TYPES[type_]) for name, shape, type_ in found]


@pytest.fixture
def path(tmp_path: Path, tensors: list[TensorEntry]) -> Path:
    return gguf_files.write(tmp_path / "x.gguf", tensors, [kv("general.name", "x")], zeros=True)


PLANNED = {"norm": "F32", "w": "Q4_K", "e": "Q8_0"}


def refused(path: Path, planned: dict[str, str] | None = None) -> str:
    with pytest.raises(gguf.GGUFError) as caught:
        gguf.verify(path, planned)
    return str(caught.value)


def damage(path: Path, tensor: str, at: int, data: bytes) -> None:
    with gguf.read(path) as file:
        position = file.data_offset + file.tensors[tensor].offset + at
    with path.open("r+b") as target:
        target.seek(position)
        target.write(data)


def test_a_whole_file_is_reported(path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = gguf.verify(path, PLANNED, progress=lambda *bytes_: seen.append(bytes_))
    size = path.stat().st_size
    assert report.to_json() == {
        "files": [{"name": "x.gguf", "sha256": sha256(path), "size": size, "tensors": 3}],
        "planned": True,
        "size": size,
        "tensors": 3,
        "types": {"F32": 1, "Q4_K": 1, "Q8_0": 1},
    }
    assert seen[-1] == (size, size)
    assert not gguf.verify(path).types_checked


def test_broken_blocks_are_named(path: Path) -> None:
    cure = "fetch the file again, or make it anew from a base whose weights are finite"
    damage(path, "e", 34 * 3, NAN)
    assert refused(path) == (
        f"{path}: the tensor 'e' (Q8_0): the scale d of block 3 of 4 is infinite or no number; {cure}"
    )
    damage(path, "w", 144 * 2 + 2, INFINITE)
    assert refused(path) == (
        f"{path}: the tensor 'w' (Q4_K): the scale dmin of block 2 of 3 is infinite or no number; {cure}"
    )
    damage(path, "norm", 28, b"\0\0\x80\x7f")
    assert refused(path) == f"{path}: the tensor 'norm' (F32): weight 7 of 8 is infinite or no number; {cure}"


def test_a_block_beyond_the_first_chunk_is_counted_from_the_tensors_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "_CHUNK", 150)
    assert gguf.verify(path).files[0].sha256 == sha256(path)
    damage(path, "w", 144 * 2, INFINITE)
    with pytest.raises(verification.BrokenBlock) as caught:
        gguf.verify(path)
    assert (caught.value.tensor, caught.value.block, caught.value.blocks) == ("w", 2, 3)


@pytest.mark.parametrize(
    ("planned", "message"),
    [
        (PLANNED | {"w": "Q6_K"}, "the tensor 'w' is Q4_K and not Q6_K, as was planned; make the file anew"),
        ({"w": "Q4_K"}, "the tensor 'norm' was not planned; make the file anew from the planned base"),
        (PLANNED | {"z": "F32"}, "the planned tensor 'z' is not there; make the file anew"),
    ],
)
def test_other_types_than_planned_are_named(path: Path, planned: dict[str, str], message: str) -> None:
    assert refused(path, planned) == f"{path}: {message}"


def test_a_file_must_end_where_its_last_tensor_does(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + b"more")
    assert refused(path) == (f"{path}: 4 bytes follow the last tensor; a whole file ends there, fetch or make it anew")
    path.write_bytes(whole + whole)
    assert refused(path) == (
        f"{path}: another GGUF file follows the last tensor, as `cat` leaves them, it holds "
        f"file 1 ({len(whole)} bytes), file 2 ({len(whole)} bytes); fetch the file anew"
    )
    path.write_bytes(whole + b"<html><title>502 Bad Gateway")
    assert refused(path) == (
        f"{path}: 28 bytes follow the last tensor (a web page); a whole file ends there, fetch or make it anew"
    )
    for missing in (1, 24, 25, 400):  # the last 24 bytes are padding
        path.write_bytes(whole[:-missing])
        assert refused(path) == (
            f"{path}: {missing} bytes are missing ({len(whole) - missing} of {len(whole)} are there); "
            "it was cut short, fetch it again"
        )


def test_a_download_that_is_not_finished_though_of_full_size_is_named(path: Path) -> None:
    path.with_name("x.gguf.aria2").touch()
    assert refused(path) == (
        f"{path}: its download is not finished, for x.gguf.aria2 is beside it; start the download again"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html>\n<html>", "a web page; fetch the file itself"),
        (b'{"error":"Repository not found"}', "JSON text, perhaps a server's error message; read it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:", "a git-lfs pointer; fetch the file itself with"),
        (b"", "an empty file; fetch it again"),
        (bytes(4096), "zeros, as an unfinished download leaves them; fetch it again"),
    ],
)
def test_what_people_save_as_a_model_is_recognized(path: Path, content: bytes, said: str) -> None:
    path.write_bytes(content)
    assert refused(path).startswith(f"{path}: not a GGUF file but {said}")


def test_no_model_and_a_header_cut_short_are_named(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:120])
    assert refused(path) == (
        f"{path}: ends after 120 bytes, inside the description of the tensor 'w'; it was cut short, fetch it again"
    )
    path.write_text("<html>")
    assert refused(path).startswith(f"{path}: not a GGUF file but a web page; ")


class TestShards:
    @pytest.fixture
    def parts(self, path: Path, tmp_path: Path) -> list[Path]:
        return gguf.split(path, tmp_path / "d", "x", max_tensors=1)

    def test_all_shards_are_verified_whichever_is_named(self, parts: list[Path]) -> None:
        report = gguf.verify(parts[1], PLANNED)
        assert [(file.name, file.sha256) for file in report.files] == [(part.name, sha256(part)) for part in parts]
        assert report.to_json()["tensors"] == 3
        damage(parts[2], "e", 0, INFINITE)
        assert refused(parts[0]).startswith(f"{parts[2]}: the tensor 'e' (Q8_0): the scale d of block 0 of 4 is ")

    def test_a_missing_shard_is_named(self, parts: list[Path]) -> None:
        parts[2].unlink()
        assert refused(parts[0]) == (
            f"{parts[0].parent}: x-00003-of-00003.gguf of 3 shards is missing; "
            "fetch what is missing into the same directory"
        )

    def test_a_shard_under_another_name_is_not_taken_for_a_whole_file(self, parts: list[Path]) -> None:
        alone = parts[0].replace(parts[0].with_name("model.gguf"))
        assert refused(alone) == (
            f"{alone}: this is shard 1 of 3 under another name, the others are missing; "
            "fetch them and name each like model-00001-of-00003.gguf"
        )

    def test_shards_that_cat_put_together_are_recognized(self, parts: list[Path]) -> None:
        together, sizes = parts[0].with_name("model.gguf"), [part.stat().st_size for part in parts]
        data = b"".join(part.read_bytes() for part in parts)
        together.write_bytes(data)
        names = [f"model-0000{number}-of-00003.gguf ({size} bytes)" for number, size in enumerate(sizes, 1)]
        said, cure = (
            f"{together}: a shard of 3 with others behind it, as `cat` leaves them, which is no model, it holds ",
            "; fetch the shards, and give llama.cpp the first or join them with `quantmill merge`",
        )
        assert refused(together) == said + ", ".join(names) + cure
        together.write_bytes(data[: -sizes[2]])
        assert refused(together) == said + ", ".join(names[:2]) + cure
        together.write_bytes(parts[1].read_bytes() + parts[0].read_bytes())  # in another order
        assert refused(together) == said + ", ".join([names[1], names[0]]) + cure
        together.write_bytes(data[:-32])
        broken = f"a part that is cut short or no GGUF file ({sizes[2] - 32} bytes)"
        assert refused(together) == said + ", ".join([*names[:2], broken]) + cure
        parts[0].write_bytes(data)  # cat under the first shard's own name
        assert f"it holds {parts[0].name} ({sizes[0]} bytes), {parts[1].name} (" in refused(parts[0])

    def test_a_long_list_of_what_cat_put_together_ends(self, parts: list[Path]) -> None:
        together = parts[0].with_name("model.gguf")
        together.write_bytes(parts[0].read_bytes() * 1200)
        assert ", and 989 more; fetch the shards" in refused(together)

    def test_a_merged_file_is_whole(self, parts: list[Path], tmp_path: Path) -> None:
        assert gguf.verify(gguf.merge(parts[0], tmp_path / "m.gguf"), PLANNED).types == {"F32": 1, "Q4_K": 1, "Q8_0": 1}

    def test_a_tensor_missing_from_all_shards_is_named_once(self, parts: list[Path]) -> None:
        assert refused(parts[0], PLANNED | {"z": "F32"}) == (
            f"{parts[0]}: the planned tensor 'z' is not there; make the file anew"
        )


class TestStep:
    def objects(self, paths: list[Path], base: Path, under: Path) -> dict[str, Artifact]:
        """The files of a release and their base as a store keeps them: named by their digest."""
        under.mkdir()
        found = {}
        for name, item in [(f"files/x/{item.name}", item) for item in paths] + [("base.gguf", base)]:
            target = under / sha256(item)
            target.write_bytes(item.read_bytes())
            found[name] = Artifact(target, target.name, target.stat().st_size)
        return found

    def test_the_report_is_the_same_wherever_the_files_are(self, path: Path, tmp_path: Path) -> None:
        parts = gguf.split(path, tmp_path / "d", "x", max_tensors=2)
        expected = gguf.verify(parts[0], PLANNED).to_json()
        inputs = self.objects(parts, path, tmp_path / "store")
        for out in (tmp_path / "a", tmp_path / "b"):
            out.mkdir()
            step.run(dict(reversed(inputs.items())), {}, out, Context())
            assert json.loads((out / "verify.json").read_text()) == expected
        assert (tmp_path / "a/verify.json").read_bytes() == (tmp_path / "b/verify.json").read_bytes()

    def test_messages_name_the_release_file_not_the_object(
        self, path: Path, tensors: list[TensorEntry], tmp_path: Path
    ) -> None:
        base = gguf_files.write(tmp_path / "base", tensors[1:], [], zeros=True)
        with pytest.raises(gguf.GGUFError) as caught:
            step.run(self.objects([path], base, tmp_path / "store"), {}, tmp_path, Context())
        assert str(caught.value) == (
            "x/x.gguf: the tensor 'norm' was not planned; make the file anew from the planned base"
        )

    def test_another_digest_than_the_artifacts_is_refused(self, path: Path, tmp_path: Path) -> None:
        inputs = self.objects([path], path, tmp_path / "store")
        wrong = Artifact(path, "0" * 64, path.stat().st_size)
        with pytest.raises(gguf.GGUFError) as caught:
            step.run(inputs | {"files/x/x.gguf": wrong}, {}, tmp_path, Context())
        assert str(caught.value) == (
            f"{path}: its sha256 is {sha256(path)} and not {'0' * 64}; it was damaged, fetch or make it anew"
        )

    def test_a_missing_shard_of_the_step_is_named(self, path: Path, tmp_path: Path) -> None:
        first = gguf.split(path, tmp_path / "d", "x", max_tensors=2)[:1]
        inputs = self.objects(first, path, tmp_path / "store")
        with pytest.raises(gguf.GGUFError, match=re.escape("x-00002-of-00002.gguf of 2 shards is missing")):
            step.run(inputs, {}, tmp_path, Context())


def test_memory_is_bounded(tmp_path: Path) -> None:
    """A sparse file of 256 MB: the process stays under 200 MB, all its libraries and the mapped pages included."""
    big = [("a", (2**13, 2**13), TYPES["F32"])]
    header, infos = gguf.header([], big)
    path = tmp_path / "big.gguf"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + infos[0].nbytes)
    program = (
        "import re, sys; from quantmill import gguf; gguf.verify(sys.argv[1]); "
        # not ru_maxrss, which begins with what the process was forked from
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(done.stdout) * 1024 < 200e6


def test_a_file_that_shrinks_meanwhile_is_named(path: Path) -> None:
    shrinks: Callable[[int, int], None] = lambda done, total: path.write_bytes(b"")  # noqa: E731 - its type is said here
    with pytest.raises(gguf.GGUFError) as caught:
        gguf.verify(path, progress=shrinks)
    assert str(caught.value) == f"{path}: changed while it was read; run again when nothing writes to it"
