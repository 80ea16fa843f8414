"""Whatever happens between a build and the shared store, the build ends right, and nothing wrong is kept or sent on."""

import hashlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fault_proxy import FAULTS, FaultProxy
from projects import RECIPE, Project
from quantmill.store.care.check import verify_store
from quantmill.store.local import Store
from quantmill.store.remote.bucket import Bucket, StoreError, Wrong
from quantmill.store.remote.settings import Settings
from quantmill.store.remote.transfer import fetch, send, unit
from s3_server import S3Server
from team import AS_READER, AS_WRITER, TRANSFER, Team, s3_url

SMALL = RECIPE.replace('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0", "Q2_K"')


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[FaultProxy]:
    found = FaultProxy(s3.port, lambda method, path: None)
    yield found
    found.stop()


@pytest.fixture
def team(proxy: FaultProxy, tmp_path: Path) -> Team:
    return Team(tmp_path, s3_url(tmp_path.name), proxy.endpoint)


@pytest.fixture
def straight(s3: S3Server, tmp_path: Path) -> Team:
    """A team with no proxy before its server."""
    return Team(tmp_path, s3_url(tmp_path.name), s3.endpoint)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The release as a build without a shared store makes it."""
    return {}


def right(project: Project, expected: dict[str, bytes]) -> None:
    """The release is the one that every build makes, and all that is kept is what its name says."""
    found = project.release()
    assert found == (expected.setdefault("release", found) if not expected else expected["release"])
    assert verify_store(Store(project.folder / "cache")).damaged == ()


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_between_us_and_an_object(fault: str, team: Team, proxy: FaultProxy, tmp_path: Path) -> None:
    """Sent and fetched in chunks while every third request is at fault: the object arrives, or a sentence does."""
    data = random.Random(5).randbytes(2 << 20)
    digest, source, part = hashlib.sha256(data).hexdigest(), tmp_path / "source", tmp_path / "part"
    source.write_bytes(data)
    count = 0

    def choose(method: str, path: str) -> str | None:
        nonlocal count
        count += 1
        return fault if count % 3 == 0 else None

    bucket, proxy.choose, came, told = writer(team), choose, False, ""
    try:
        send(bucket, source, digest, 256 << 10, 2, False, lambda count: None)
        came = fetch(bucket, digest, len(data), part, 256 << 10, 2, lambda count: None)
    except (StoreError, Wrong) as error:
        told = str(error)
    assert came or fault in ("expired", "flipped", "flipped request", "truncated"), told
    assert "AKIASECRET" not in told
    assert not came or part.read_bytes() == data
    assert proxy.count > 1


def test_credentials_that_expire_within_a_build(
    team: Team, proxy: FaultProxy, project: Project, expected: dict[str, bytes]
) -> None:
    count = 0

    def choose(method: str, path: str) -> str | None:
        nonlocal count
        count += 1
        return "expired" if count > 60 else None

    proxy.choose = choose
    project.recipe.write_text(SMALL)
    done = team.join(project, sign=True).run("doit", **AS_WRITER)
    assert "access is refused (403 Forbidden" in done.stdout
    assert "AKIASECRET" not in done.stdout + done.stderr
    right(project, expected)


def test_faults_at_random(
    team: Team, proxy: FaultProxy, make_project: Callable[..., Project], expected: dict[str, bytes]
) -> None:
    chance = random.Random(6)
    proxy.choose = lambda method, path: chance.choice(FAULTS[:-1]) if chance.random() < 0.3 else None
    for name, who in (("writer", AS_WRITER), ("reader", AS_READER)):
        project = team.join(make_project(name, SMALL), sign=name == "writer")
        project.run("doit", "-n", "2", **who)
        right(project, expected)
    assert proxy.count > 20


def test_an_object_that_is_another_is_refused_and_made_again(
    straight: Team, make_project: Callable[..., Project], expected: dict[str, bytes]
) -> None:
    """Who owns the bucket swaps objects: one for another of the same size, and half of one."""
    first = straight.join(make_project("first", SMALL), sign=True)
    first.run("doit", **AS_WRITER)
    bucket = writer(straight)
    for name, size in list(bucket.list("cas")):
        bucket.put(name, bytes(size))
    reader = straight.join(make_project("reader", SMALL))
    done = reader.run("doit", **AS_READER)
    assert "has it damaged" in done.stdout
    assert "is made again here" in done.stdout
    right(reader, expected)
    healer = straight.join(make_project("healer", SMALL), sign=True)
    healer.run("doit", **AS_WRITER)
    right(healer, expected)
    last = straight.join(make_project("last", SMALL))
    assert "damaged" not in last.run("doit", **AS_READER).stdout
    right(last, expected)


def test_a_record_that_was_copied_or_forged_is_a_miss_and_is_replaced(
    straight: Team, make_project: Callable[..., Project], expected: dict[str, bytes]
) -> None:
    first = straight.join(make_project("first", SMALL), sign=True)
    first.run("doit", **AS_WRITER)
    bucket = writer(straight)
    records = [name for name, _ in bucket.list("ac")]
    texts = {name: bucket.get(name, 1 << 20) or b"" for name in records}
    for name, other in zip(records, records[1:] + records[:1], strict=True):
        bucket.put(name, texts[other])
    reader = straight.join(make_project("reader", SMALL))
    done = reader.run("doit", **AS_READER)
    assert done.stdout.count("its records are not believed where they are of other keys than their places say") == 1
    assert ": from s3://" not in done.stdout
    right(reader, expected)
    straight.join(make_project("healer", SMALL), sign=True).run("doit", **AS_WRITER)
    last = straight.join(make_project("last", SMALL)).run("doit", **AS_READER)
    assert last.stdout.splitlines()[-1].startswith("0 run, ")


def test_without_the_shared_store_a_build_goes_on(team: Team, proxy: FaultProxy, project: Project) -> None:
    proxy.stop()
    team.join(project, sign=True, retries=2)
    done = project.run("doit", **AS_WRITER)
    told = [line for line in done.stdout.splitlines() if line.startswith("  s3://")]
    assert told[0] == f"  {team.url}: it cannot be used (no connection); the build goes on without it"
    assert told[1].endswith("results will be sent by the next build")
    assert len(told) == 2


def writer(team: Team) -> Bucket:
    os.environ.update(AS_WRITER)
    return Bucket(Settings(team.url, endpoint=team.endpoint, region="us-east-1", timeout=10))


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in AS_WRITER.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("action", ["send", "fetch"])
def test_a_broken_transfer_goes_on_at_its_chunk(action: str, team: Team, proxy: FaultProxy, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(24 << 20)
    source, sha256, chunk = tmp_path / "source", hashlib.sha256(data).hexdigest(), 256 << 10
    source.write_bytes(data)
    if action == "fetch":
        send(writer(team), source, sha256, chunk, 2, False, lambda count: None)
    path = source if action == "send" else tmp_path / "part"
    call = [team.url, proxy.endpoint, action, str(path), sha256, str(len(data)), str(chunk)]
    begin = proxy.received + proxy.sent
    for stop in (0.2, 0.4, 0.45, 0.8):
        running = subprocess.Popen([sys.executable, "-c", TRANSFER, *call])
        while proxy.received + proxy.sent < begin + stop * len(data):
            assert running.poll() is None
            signal.sigtimedwait([], 0.005)
        running.kill()
        running.wait()
    assert subprocess.run([sys.executable, "-c", TRANSFER, *call]).returncode == 0
    assert proxy.received + proxy.sent - begin < 1.3 * len(data)
    if action == "send":
        path = tmp_path / "part"
        assert fetch(writer(team), sha256, len(data), path, chunk, 2, lambda count: None)
    assert path.read_bytes() == data


def test_unchanged_chunks_are_not_sent_again(team: Team, proxy: FaultProxy, tmp_path: Path) -> None:
    data = bytearray(random.Random(2).randbytes(4 << 20))
    for changed in (None, 3 << 20):
        if changed:
            data[changed] ^= 1
        begin, path = proxy.received, tmp_path / "object"
        path.write_bytes(data)
        send(writer(team), path, hashlib.sha256(data).hexdigest(), 64 << 10, 2, False, lambda count: None)
    assert proxy.received - begin < 80 << 10


def test_chunk_lists_that_are_wrong_are_refused(team: Team, tmp_path: Path) -> None:
    bucket, part = writer(team), tmp_path / "part"
    data, other = random.Random(3).randbytes(1 << 20), random.Random(4).randbytes(1 << 20)
    for name, content in (("data", data), ("other", other)):
        (tmp_path / name).write_bytes(content)
        send(bucket, tmp_path / name, hashlib.sha256(content).hexdigest(), 1 << 16, 2, False, lambda count: None)
    digest, theirs = (hashlib.sha256(content).hexdigest() for content in (data, other))
    swapped = bucket.get(f"chunks/{theirs}", 1 << 20) or b""
    for listing in (swapped, b"{", b"[]", swapped.replace(b'"chunk": 65536', b'"chunk": 0'), swapped[:-70] + b'"]}'):
        bucket.put(f"chunks/{digest}", listing)
        with pytest.raises(Wrong):
            fetch(bucket, digest, len(data), part, 1 << 16, 2, lambda count: None)
    assert not part.exists()


def test_the_size_of_chunks() -> None:
    largest, mib = 256 << 20, 1 << 20
    assert [unit(size * mib, largest) // mib for size in (1, 2048, 2049, 20_000, 35_000, 1_000_000)] == [
        8, 8, 16, 128, 256, 256,
    ]  # fmt: skip
    assert unit(10 * mib, 1000) == 1000
