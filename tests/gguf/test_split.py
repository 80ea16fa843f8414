"""split and merge against the bytes of llama-gguf-split, and shards that do not belong together."""

import hashlib
from pathlib import Path

import pytest

from gguf_files import F32, described, every_kind, write
from quantmill import gguf
from quantmill.artifact import Artifact, Context
from quantmill.cli import main
from quantmill.errors import UsageError
from quantmill.gguf import TensorEntry, ValueType, errors, kv, shards
from quantmill.gguf.comparison import compare
from quantmill.gguf.verification import verify, verify_files
from quantmill.steps import split as step

# Recorded from llama-gguf-split of llama-cpp-python 0.3.9's llama.cpp (May 2025), run with --split-max-tensors N or
# --split-max-size NM on write(described(count, scale)), then with --merge on the first shard. The first digest is the
# sha256 of what sha256sum prints for the shards in order, the second that of the merged file.
RECORDED = [
    (
        *(0, 1, {"max_tensors": 3}, 1),
        "4ffe1f6ca5a45f9e4e5150b1f176c3577e88d1ca13c805d5f2476aafc5f9c952",
        "630a1c4cbc76fac20abb95b50daeaf2b5c253d452f1f888de085007d82e90300",
    ),
    (
        *(1, 1, {"max_tensors": 128}, 1),
        "9561e01da806f056e657ad87cdbc7c8960f4972303bbb54983a0a6727887389b",
        "562e02f0457864171b168e6e390b89a8462767309ffe6f69e889c8059d78b8b5",
    ),
    (
        *(5, 1, {"max_tensors": 1}, 5),
        "3e96e0730f219bd3a0b2e4c2ed0ac92cfa779a04e5d60714ec27b2527a4c74c0",
        "e1cf13048af562351d747eb82a74d3a2932fb19138a12d55ec38fee92e34e18e",
    ),
    (
        *(40, 1, {"max_tensors": 3}, 14),
        "83c69ee39190daee7d33740f8493f4d571b6f822f054df6a8c32dc7f48dd61cb",
        "c940afee99973505fef06cdfe83622d7b2ff6f7d23ee65b7c4845b408f1e2381",
    ),
    (
        *(300, 1, {"max_tensors": 128}, 3),
        "18c0ba550c8036c047089027ba55f404baeb055a774aa1e74a7fc5534ebd7343",
        "0eda0098f45a010f1ffcda5b361ebc7c4ff441522b62d4f87856abdfb344a3d2",
    ),
    (
        *(40, 400, {"max_size": 1_000_000}, 3),
        "3f7e97de38d11dd7aea04c79f108849aecfcd0007d0e09d981e2367b0e1accf3",
        "0709b0726ea95a3c7ccb5c655817d047d4292206cfe7694a4b9db64d776df890",
    ),
    (
        *(40, 400, {"max_size": 2_000_000}, 2),
        "ee9b177eac8c82e37a1544b94e9259bc954c8210da402dda338387a2a7858c18",
        "0709b0726ea95a3c7ccb5c655817d047d4292206cfe7694a4b9db64d776df890",
    ),
    (
        *(40, 400, {"max_size": 100_000_000}, 1),
        "748fd2a546766a41801c59201fc08f1cdfc15e0047f21375b974bec9a53903c2",
        "0709b0726ea95a3c7ccb5c655817d047d4292206cfe7694a4b9db64d776df890",
    ),
]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(("count", "scale", "limit", "n_shards", "digest", "merged"), RECORDED)
def test_shards_and_their_merge_are_llama_gguf_splits(
    tmp_path: Path, count: int, scale: int, limit: dict[str, int], n_shards: int, digest: str, merged: str
) -> None:
    source = write(tmp_path / "in.gguf", described(count, scale))
    seen: list[tuple[int, int]] = []
    paths = gguf.split(source, tmp_path / "out", "x", **limit, progress=lambda *bytes_: seen.append(bytes_))
    assert [path.name for path in paths] == [f"x-{n + 1:05d}-of-{n_shards:05d}.gguf" for n in range(n_shards)]
    assert sorted((tmp_path / "out").iterdir()) == paths
    listing = "".join(f"{sha256(path)}  {path.name}\n" for path in paths)
    assert hashlib.sha256(listing.encode()).hexdigest() == digest
    assert [path.stat().st_size for path in paths] == [
        shard.size for shard in gguf.plan_shards(every_kind(), described(count, scale), **limit)
    ]
    assert not seen or (seen == sorted(seen) and seen[-1][0] == seen[-1][1])
    assert sha256(gguf.merge(paths[-1], tmp_path / "m.gguf")) == merged
    again = gguf.split(tmp_path / "m.gguf", tmp_path / "again", "x", **limit)
    assert [path.name for path in again] == [path.name for path in paths]
    assert gguf.merge(again[0], tmp_path / "m2.gguf").read_bytes() == (tmp_path / "m.gguf").read_bytes()


@pytest.mark.parametrize(("option", "limit"), [("--max-tensors", 3), ("--split-max-tensors", 7)])
def test_the_command_cuts_by_the_number_of_tensors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, limit: int
) -> None:
    source = write(tmp_path / "in.gguf", described(40))
    expected = gguf.split(source, tmp_path / "expected", "in", max_tensors=limit)
    assert call(["split", str(source), str(tmp_path / "out"), option, str(limit)]) == 0
    paths = [tmp_path / "out" / path.name for path in expected]
    assert capsys.readouterr().out == "".join(f"{path}\n" for path in paths)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in expected]


def test_a_shard_is_not_written_over_what_is_cut(tmp_path: Path) -> None:
    source = write(tmp_path / "in-00001-of-00004.gguf", described(40))
    before = source.read_bytes()
    with pytest.raises(UsageError, match=r"/in-00001-of-00004.gguf: the call reads this file, so it cannot be what"):
        gguf.split(source, tmp_path, "in", max_tensors=10)
    assert source.read_bytes() == before


def test_the_command_takes_one_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["split", "in.gguf", str(tmp_path), "--max-size", "1GB", "--max-tensors", "3"]) == 2
    assert capsys.readouterr().err.endswith(
        "argument --max-tensors/--split-max-tensors: not allowed with argument --max-size/--split-max-size\n"
    )


def test_a_limit_that_is_no_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["split", "in.gguf", "out", "--max-size", "big"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "quantmill split: error: argument --max-size/--split-max-size: 'big' is not a size; write it like 50GB or 300MB"
    )


def call(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_a_file_of_another_alignment_stays_readable(tmp_path: Path) -> None:
    source = write(tmp_path / "in.gguf", described(7), [kv("general.alignment", 4096)])
    paths = gguf.split(source, tmp_path, "x", max_tensors=3)
    with gguf.read(paths[0]) as first, gguf.read(paths[1]) as second:
        assert (first.alignment, second.alignment) == (4096, 32)
    with gguf.read(gguf.merge(paths[0], tmp_path / "m.gguf")) as whole, gguf.read(source) as old:
        assert whole.alignment == 4096
        for name, info in old.tensors.items():
            assert bytes(whole.data(whole.tensors[name])) == bytes(old.data(info))


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({}, "a split needs one limit, the size or the number of tensors of a shard, and it must be at least 1"),
        (
            {"max_size": 1, "max_tensors": 1},
            "a split needs one limit, the size or the number of tensors of a shard, and it must be at least 1",
        ),
        (
            {"max_tensors": 0},
            "a split needs one limit, the size or the number of tensors of a shard, and it must be at least 1",
        ),
        (
            {"max_size": 95},
            "a shard of 95 bytes cannot hold the first tensor 'a'; allow at least 96 bytes",
        ),
    ],
)
def test_an_impossible_limit_is_a_wrong_call(tmp_path: Path, limit: dict[str, int], message: str) -> None:
    source = write(tmp_path / "in.gguf", [("a", (17,), F32), ("b", (100,), F32)], [])
    with pytest.raises(errors.GGUFUsageError) as caught:
        gguf.split(source, tmp_path / "out", "x", **limit)
    assert (str(caught.value), caught.value.exit_code) == (message, 2)
    assert not (tmp_path / "out").exists()


def test_more_shards_than_gguf_can_count_are_refused() -> None:
    with pytest.raises(errors.GGUFUsageError) as caught:
        gguf.plan_shards([], [(f"t{n}", (1,), F32) for n in range(65536)], max_tensors=1)
    assert str(caught.value) == "65536 shards are more than the 65535 that GGUF can count; allow larger shards"


def test_a_later_tensor_beyond_the_limit_gets_a_shard_of_its_own() -> None:
    tensors = [("a", (8,), F32), ("b", (1000,), F32), ("c", (8,), F32)]
    planned = gguf.plan_shards([], tensors, max_size=32)
    assert [[name for name, _, _ in shard.tensors] for shard in planned] == [["a"], ["b"], ["c"]]


def test_a_failure_removes_the_shards_that_were_made(tmp_path: Path) -> None:
    source = write(tmp_path / "in.gguf", described(9), [])

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        gguf.split(source, tmp_path / "out", "x", max_tensors=2, progress=stop)
    assert list(tmp_path.iterdir()) == [source]


class TestMerge:
    @pytest.fixture
    def parts(self, tmp_path: Path) -> list[Path]:
        return gguf.split(write(tmp_path / "in.gguf", described(9), []), tmp_path / "d", "x", max_tensors=3)

    def refused(self, shard: Path) -> str:
        with pytest.raises(gguf.GGUFError) as caught:
            gguf.merge(shard, shard.parent / "m.gguf")
        assert not (shard.parent / "m.gguf").exists()
        return str(caught.value)

    def test_missing_shards_are_named(self, parts: list[Path]) -> None:
        parts[1].unlink()
        assert self.refused(parts[0]) == (
            f"{parts[0].parent}: x-00002-of-00003.gguf of 3 shards is missing; "
            "fetch what is missing into the same directory"
        )
        parts[2].unlink()
        assert self.refused(parts[0]) == (
            f"{parts[0].parent}: x-00002-of-00003.gguf, x-00003-of-00003.gguf of 3 shards are missing; "
            "fetch what is missing into the same directory"
        )

    def test_a_renamed_shard_is_found(self, parts: list[Path]) -> None:
        parts[2].replace(parts[1])
        parts[0].with_name("x-00003-of-00003.gguf").write_bytes(parts[1].read_bytes())
        assert self.refused(parts[0]) == (
            f"{parts[1]}: split.no is 2 and not 1; "
            "it was renamed or belongs to another file, fetch all shards of one release"
        )

    def test_a_shard_without_its_keys_is_found(self, parts: list[Path]) -> None:
        write(parts[1], [], [kv(shards.NO, 1, ValueType.UINT16)])
        assert self.refused(parts[0]) == (
            f"{parts[1]}: split.count is missing and not 3; "
            "it was renamed or belongs to another file, fetch all shards of one release"
        )
        write(parts[0], [], [])
        assert self.refused(parts[0]) == (
            f"{parts[0]}: not a shard; name one that ends in -00001-of-0000N.gguf and has the key split.count"
        )

    def test_tensors_of_another_release_are_found(self, parts: list[Path], tmp_path: Path) -> None:
        other = gguf.split(write(tmp_path / "b.gguf", described(9)[2:], []), tmp_path / "e", "x", max_tensors=3)
        with gguf.read(parts[1]) as part:
            kvs = list(part.metadata.values())
        write(parts[1], [("t0", (1,), F32)], kvs)
        assert self.refused(parts[0]) == (f"{parts[1]}: the tensor 't0' is there twice; every tensor may be there once")
        write(parts[1], [("other", (1,), F32)], kvs)
        assert self.refused(parts[0]) == (
            f"{parts[0]}: the shards hold 7 tensors and not 9 as they claim; fetch all shards of one release"
        )
        parts[1].write_bytes(other[1].read_bytes())
        assert self.refused(parts[0]) == (
            f"{parts[1]}: split.tensors.count is 7 and not 9; "
            "it was renamed or belongs to another file, fetch all shards of one release"
        )

    def test_wrong_names_are_wrong_calls(self, parts: list[Path], tmp_path: Path) -> None:
        path = tmp_path / "in.gguf"
        assert self.refused(path) == (
            f"{path}: not a shard; name one that ends in -00001-of-0000N.gguf and has the key split.count"
        )
        with pytest.raises(errors.GGUFUsageError) as exists:
            gguf.merge(parts[0], tmp_path / "in.gguf")
        assert str(exists.value) == (
            f"{tmp_path / 'in.gguf'}: exists already and is not overwritten; remove it or name another file"
        )
        with pytest.raises(errors.GGUFUsageError) as already:
            gguf.split(parts[1], tmp_path, "y", max_tensors=1)
        assert str(already.value) == (
            f"{parts[1]}: one of 3 shards already; merge them first, then split the whole file"
        )


def artifact(path: Path) -> Artifact:
    return Artifact(path, sha256(path), path.stat().st_size)


class TestStep:
    def test_a_file_within_the_limit_is_handed_on(self, tmp_path: Path) -> None:
        whole = artifact(write(tmp_path / "object", described(9)))
        out = tmp_path / "out"
        out.mkdir()
        tensors = 9 * 10_000
        for max_size in (whole.size, tensors):  # by the whole file's size; by the tensors' alone
            assert gguf.shard_sizes(every_kind(), described(9), max_size) == [whole.size]
            found = step.run({"model.gguf": whole}, {"max_size": max_size, "prefix": "tiny-F16"}, out, Context())
            assert found == {"tiny-F16.gguf": whole}
        assert list(out.iterdir()) == []

    def test_metadata_alone_does_not_split_a_file(self, tmp_path: Path) -> None:
        kvs = [kv("long", "x" * 9000)]
        whole = artifact(write(tmp_path / "object", [("a", (8,), F32)], kvs))
        assert gguf.shard_sizes(kvs, [("a", (8,), F32)], 5000) == [whole.size]
        assert step.run({"a": whole}, {"max_size": 5000, "prefix": "p"}, tmp_path, Context()) == {"p.gguf": whole}

    def test_a_larger_file_is_split_as_planned(self, tmp_path: Path) -> None:
        whole = artifact(write(tmp_path / "object", described(40, 400)))
        out = tmp_path / "out"
        out.mkdir()
        found = step.run({"model.gguf": whole}, {"max_size": 1_000_000, "prefix": "tiny-F16"}, out, Context())
        assert found is None
        paths = sorted(path for path in out.rglob("*") if path.is_file())
        assert [path.relative_to(out).as_posix() for path in paths] == [
            f"tiny-F16/tiny-F16-0000{n}-of-00003.gguf" for n in (1, 2, 3)
        ]
        sizes = gguf.shard_sizes(every_kind(), described(40, 400), 1_000_000)
        assert [path.stat().st_size for path in paths] == sizes


class TestWholeFileNamedLikeAShard:
    @pytest.fixture
    def lone(self, tmp_path: Path) -> Path:
        return write(tmp_path / "model-00001-of-00003.gguf", described(9), [], zeros=True)

    def test_it_is_read_verified_and_compared(self, lone: Path, tmp_path: Path) -> None:
        assert [file.name for file in verify(lone).files] == [lone.name]
        assert [file.name for file in verify_files({lone.name: lone}).files] == [lone.name]
        assert compare(lone, write(tmp_path / "other.gguf", described(9), [], zeros=True)) == []
        assert [path.name for path in gguf.split(lone, tmp_path / "d", "x", max_tensors=5)]

    def test_it_cannot_be_merged(self, lone: Path) -> None:
        with pytest.raises(gguf.GGUFError, match="not a shard"):
            gguf.merge(lone, lone.parent / "m.gguf")

    def test_beside_another_it_is_a_shard_that_does_not_fit(self, lone: Path) -> None:
        write(lone.with_name("model-00002-of-00003.gguf"), described(9), [])
        with pytest.raises(gguf.GGUFError, match="is missing"):
            verify(lone)


def test_a_tensor_larger_than_the_limit_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = [TensorEntry(name, (size,), F32) for name, size in (("small", 64), ("large", 4096), ("last", 64))]
    source = write(tmp_path / "in.gguf", tensors, [])
    with pytest.raises(SystemExit) as ended:
        main(["split", str(source), str(tmp_path), "--max-size", "1000"])
    said = capsys.readouterr()
    assert ended.value.code == 0
    assert len(said.out.splitlines()) == 3
    place = tmp_path / "in-00002-of-00003.gguf"
    assert said.err == (
        f"quantmill: note: {place}: the tensor 'large' of 16384 bytes is larger than --max-size, and so is its shard\n"
    )
