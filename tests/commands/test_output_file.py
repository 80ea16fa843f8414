"""Where a call writes: devices, FIFOs, links and folders stay what they are, and it is decided before any work."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import forward_models
from forward_models import MODELS
from projects import TINY
from quantmill import gguf
from quantmill.cli import main
from quantmill.output_file import OutputFile, write_output

CALLS = [
    ["quantize", "MODEL", "OUT", "Q8_0"],
    ["convert", "TINY", "OUT"],
    ["imatrix", "MODEL", "-f", "TEXT", "-o", "OUT", "--n-ctx", "64", "--chunks", "2"],
    ["merge", "SHARD", "OUT"],
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the commands read, by the words that stand for it."""
    folder = tmp_path_factory.mktemp("inputs")
    model = forward_models.write(MODELS["qwen2"], folder / "m.gguf")
    shards = gguf.split(model, folder / "shards", "s", max_tensors=10)
    (folder / "text").write_text("one two three four five six seven eight " * 20)
    return {"MODEL": str(model), "SHARD": str(shards[0]), "TINY": str(TINY), "TEXT": str(folder / "text")}


@pytest.fixture(params=CALLS, ids=lambda call: call[0])
def call(request: pytest.FixtureRequest, inputs: dict[str, str]) -> Callable[[Path], int]:
    """One command, called to write to a path: its exit code."""

    def write_to(out: Path) -> int:
        words: Sequence[str] = request.param
        with pytest.raises(SystemExit) as ended:
            main([{**inputs, "OUT": str(out)}.get(word, word) for word in words])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return write_to


def test_a_device_takes_the_bytes_and_stays(tmp_path: Path, call: Callable[[Path], int]) -> None:
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError:
        device.unlink(missing_ok=True)
        device.symlink_to(os.devnull)
    assert call(device) == 0
    assert device.is_char_device()
    assert list(tmp_path.iterdir()) == [device]


def test_a_full_device_is_an_error(call: Callable[[Path], int], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(Path("/dev/full")) == 1
    assert "/dev/full: " in capsys.readouterr().err


def test_a_fifo_gives_what_a_file_would_hold(tmp_path: Path, call: Callable[[Path], int]) -> None:
    fifo, plain, found = tmp_path / "fifo", tmp_path / "plain", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()))
    reader.start()
    assert call(fifo) == 0
    reader.join()
    assert call(plain) == 0
    assert found == [plain.read_bytes()]
    assert fifo.is_fifo()


def test_a_link_stays_and_what_it_names_is_written(tmp_path: Path, call: Callable[[Path], int]) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to("there/file")
    assert call(link) == 0
    assert link.is_symlink()
    assert (tmp_path / "there" / "file").stat().st_size
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (".", ".: this is a folder; give the path of a file"),
        ("/", "/: this is a folder; give the path of a file"),
        ("folder", "folder: this is a folder; give the path of a file"),
        ("loop", "loop: no file can be written there (Too many levels of symbolic links); name another"),
        ("n" * 300, f"{'n' * 300}: no file can be written there (File name too long); name another"),
        ("file/out", "file/out: no file can be written there (Not a directory); name another"),
        ("dangling", "TMP/no: there is no such folder; make it, or give another path"),
    ],
)
def test_what_can_be_no_file_is_said_before_any_work(
    tmp_path: Path,
    call: Callable[[Path], int],
    out: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").write_bytes(b"")
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("no/file")
    before = sorted(tmp_path.rglob("*"))
    if (code := call(Path(out))) == 0:  # merge makes the folder
        assert out == "dangling"
        return
    assert code == 2
    assert capsys.readouterr().err.endswith(f"quantmill: {said.replace('TMP', str(tmp_path))}\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_is_not_put_was_never_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"earlier")
    with OutputFile(path) as output:
        output.file.write(b"half")
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]
    write_output(path, b"whole")
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("missing", ["open", "link"])
def test_a_file_system_that_knows_no_nameless_files(
    tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As network file systems."""
    real = getattr(os, missing)

    def refused(*arguments: object, **more: object) -> object:
        if missing == "link" or (isinstance(arguments[1], int) and arguments[1] & os.O_TMPFILE == os.O_TMPFILE):
            raise OSError(errno.EOPNOTSUPP, "")
        return real(*arguments, **more)

    monkeypatch.setattr(os, missing, refused)
    write_output(tmp_path / "file", b"whole" * 100)
    assert (tmp_path / "file").read_bytes() == b"whole" * 100
    assert len(list(tmp_path.iterdir())) == 1
    with OutputFile(tmp_path / "other") as output:
        output.file.write(b"half")
    assert len(list(tmp_path.iterdir())) == 1
