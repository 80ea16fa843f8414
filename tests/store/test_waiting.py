"""A shared store that is slow on purpose, or for ever, is waited for no longer than it is worth."""

import hashlib
import http.server
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from projects import RECIPE, Project
from quantmill.artifact import Artifact
from quantmill.build.graph import graph
from quantmill.build.worth import Worths
from quantmill.errors import UsageError
from quantmill.forecast import estimates
from quantmill.recipe import lock as locks
from quantmill.recipe.recipe import load
from quantmill.store.hints import Hints
from quantmill.store.key import StepKey
from quantmill.store.remote.bucket import Bucket
from quantmill.store.remote.client import SharedStore
from quantmill.store.remote.settings import Settings
from quantmill.store.remote.waiting import LEAST, Meter, Slow, Waits
from quantmill.store.shared import Gone
from team import Team

KEY = StepKey("quant", 2, 1, {}, {})
DATA = random.Random(1).randbytes(40_000)
BEATS = """
import threading, time, json
from pathlib import Path
from quantmill.store.remote import client, lease, waiting
waiting.GRACE = client.GRACE = 0.5
look = lease.Leases.look
def beaten(self, digest):
    path = Path("../shared/lease") / digest
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"owner": "x", "beat": time.monotonic_ns()}))
    return look(self, digest)
lease.Leases.look = beaten
from quantmill import cli
cli.main(["build", "small"])
"""


class Clock:
    """Passes when it is told to."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


class Trickle(http.server.BaseHTTPRequestHandler):
    """Gives `DATA` as an object: quickly below cas/q…, else a byte every now and then."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        if "/chunks/" in self.path:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206)
        self.send_header("Content-Range", f"bytes 0-{len(DATA) - 1}/{len(DATA)}")
        for key, value in (("ETag", '"x"'), ("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")):
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        try:
            if name == hashlib.sha256(DATA).hexdigest():
                self.wfile.write(DATA)
                return
            for at in range(len(DATA)):
                self.wfile.write(DATA[at : at + 1])
                self.wfile.flush()
                time.sleep(0.02)
        except OSError:
            self.close_connection = True

    def log_message(self, *arguments: object) -> None: ...


@pytest.fixture
def trickling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SharedStore]:
    """A reader of a store that trickles; a minute is five seconds."""
    for name, value in (("GRACE", 5.0), ("MEASURED", 0.5)):
        monkeypatch.setattr(f"quantmill.store.remote.waiting.{name}", value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trickle)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    settings = Settings("s3://team/x", endpoint=url, region="us-east-1")
    yield SharedStore(settings, tmp_path / "cache", lambda address, event, facts: None)
    server.shutdown()
    server.server_close()


def ignore(count: int) -> None:
    """Whom nobody tells how far it is."""


def artifact(sha256: str) -> Artifact:
    return Artifact(Path(sha256), sha256, len(DATA))


def test_a_transfer_that_trickles_is_given_up_and_costs_its_own_object_alone(
    trickling: SharedStore, tmp_path: Path
) -> None:
    with pytest.raises(Gone, match=r"s3://team/x is slow: it would take [0-9]+ s, and 5 s are enough to make it"):
        trickling.fetch(artifact("0" * 64), tmp_path / "part", ignore, lambda: 0.1)
    part = tmp_path / "other"
    trickling.fetch(artifact(hashlib.sha256(DATA).hexdigest()), part, ignore, lambda: 0.1)
    assert part.read_bytes() == DATA


def test_a_slow_transfer_is_gone_on_with_where_making_is_slower(trickling: SharedStore, tmp_path: Path) -> None:
    """It is found to be damaged, which takes all of its bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quantmill.store.remote.transfer.ATTEMPTS", 1)
        patch.setattr(time, "sleep", lambda seconds: None)  # the server's
        with pytest.raises(Gone, match="has it damaged"):
            trickling.fetch(artifact("0" * 64), tmp_path / "part", ignore, lambda: 1e6)


def test_the_rate_tells_when_a_transfer_will_end() -> None:
    clock = Clock()
    meter = Meter(1000, lambda: 100.0, clock)
    clock.time += 9.9
    meter.take()  # too early to tell
    clock.time += 0.1
    meter.take(100)  # 100 s in all, and 150 are allowed
    clock.time += 5.2
    with pytest.raises(Slow, match="it would take 152 s, and 150 s are enough to make it"):
        meter.take()
    quick = Meter(1000, lambda: 1.0, clock)
    clock.time += 59
    quick.take(990)  # within a minute, whatever it is worth
    unknown, started = Meter(LEAST * 1000, lambda: None, clock), clock.time
    for _ in range(90):
        clock.time += 10
        unknown.take(LEAST * 10 + 1)
    clock.time = started + 1001
    with pytest.raises(Slow):
        unknown.take(LEAST * 10 + 1)
    skipped = Meter(1000, lambda: 1.0, clock)
    skipped.skip(990)
    clock.time += 30
    skipped.take(6)
    clock.time += 31
    with pytest.raises(Slow):
        skipped.take(1)


def test_what_a_build_loses_in_all_is_bounded() -> None:
    clock = Clock()
    waits = Waits(clock)
    for _ in range(60):
        began = clock.time
        clock.time += 2
        waits.since(began, 1)
        waits.since(began, 1)  # at the same time
    assert not waits.too_long()  # 60 of 120 s
    clock.time += 40  # did something else
    assert not waits.too_long()
    began = clock.time
    clock.time += 60
    waits.since(began, 0)
    assert waits.too_long()  # 120 lost, and 100 that were not: 110
    clock.time += 21
    assert not waits.too_long()
    began = clock.time
    clock.time += 1000
    assert waits.free(began, lambda: 600.0, 5) == 900
    assert waits.free(began, lambda: None, 7) == 7
    assert waits.free(clock.time, lambda: 1 / 0, 7) == 5  # nobody is asked where it was quick


def test_a_store_that_took_too_long_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    settings = Settings(f"file://{tmp_path}/not there")  # which nobody finds out
    store = SharedStore(settings, tmp_path / "cache", lambda address, event, facts: told.append(facts["text"]))
    monkeypatch.setattr("quantmill.store.remote.waiting.GRACE", -1e9)
    assert store.find(KEY) is None
    with store.claim(KEY, "quant:x") as found:
        assert found is None
    with pytest.raises(Gone, match="cannot be used just now"):
        store.fetch(artifact("0" * 64), tmp_path / "part", ignore)
    assert told == ["it keeps this build waiting for too long; the build goes on without it for a while"]


@pytest.mark.parametrize("removed", [False, True])
@pytest.mark.parametrize("signs", [False, True])
def test_a_lease_that_is_beaten_for_ever_is_not_waited_for(
    signs: bool, removed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that goes and is there again."""
    for place in ("waiting", "client"):
        monkeypatch.setattr(f"quantmill.store.remote.{place}.GRACE", 0.5)
    (tmp_path / "shared").mkdir()
    team, bucket = Team(tmp_path, f"file://{tmp_path}/shared"), Bucket(Settings(f"file://{tmp_path}/shared"))
    settings = Settings(team.url, (team.public,), str(team.key) if signs else None, lease=30)
    told: list[str] = []
    store = SharedStore(settings, tmp_path / "cache", lambda address, event, facts: told.append(facts["text"]))
    ended, name = threading.Event(), f"lease/{KEY.digest()}"

    def beat() -> None:
        for count in itertools.count():
            if ended.wait(0.05):
                return
            if removed and count % 2:
                bucket.delete(name)
            else:
                bucket.put(name, json.dumps({"owner": str(count if removed else 1), "beat": count}).encode())

    bucket.put(name, b'{"owner": "1", "beat": -1}')
    threading.Thread(target=beat, daemon=True).start()
    try:
        with store.claim(KEY, "quant:x", lambda: 0.2) as found:
            assert found is None
    finally:
        ended.set()
    assert removed or told[-1] == "quant:x is not waited for any longer: it is made here"


def test_a_build_goes_on_beside_leases_that_nobody_works_for(
    tmp_path: Path, make_project: Callable[..., Project]
) -> None:
    (tmp_path / "shared").mkdir()
    team = Team(tmp_path, f"file://{tmp_path}/shared")
    alone = make_project("alone", RECIPE.replace('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0"'))
    alone.run("doit")
    reader = team.join(make_project("reader", alone.recipe.read_text()), lease=1000)
    done = reader.run("python", "-c", BEATS)
    assert "quant:small/Q8_0 is not waited for any longer: it is made here" in done.stdout
    assert reader.release() == alone.release()


def test_what_a_task_is_worth_counts_all_that_is_not_here(project: Project) -> None:
    recipe = load(project.recipe)
    lock = locks.peek(recipe, Hints(project.folder / "cache").digest_of)
    nodes, worths = graph(recipe, lock), Worths(estimates)
    quant = nodes["quant:small/Q2_K"]
    assert worths.seconds(quant, nodes, lambda node: False, 1) is None  # of a recipe that nobody told of
    worths.know(recipe, lock)
    worths = Worths(estimates)
    worths.know(recipe, lock)
    alone, all_of_it = (worths.seconds(quant, nodes, lambda node, here=here: here, 1) for here in (True, False))
    assert alone is not None
    assert all_of_it is not None
    assert 0 < alone < all_of_it
    release = worths.seconds(nodes["release:small"], nodes, lambda node: False, 1)
    assert release is not None
    assert release > all_of_it


def test_nobody_knows_what_is_not_described(project: Project) -> None:
    def fails(recipe: object, lock: object) -> None:
        raise UsageError("no config")

    recipe = load(project.recipe)
    lock = locks.peek(recipe, Hints(project.folder / "cache").digest_of)
    worths = Worths(fails)  # type: ignore[arg-type]
    worths.know(recipe, lock)
    nodes = graph(recipe, lock)
    assert worths.seconds(nodes["release:small"], nodes, lambda node: False, 1) is None
