"""A team's store of a small release, and readers that ask a hostile server for one thing of it."""

import base64
import hashlib
import json
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import obstore

from hostile.proxy import QUICK, SLOW, Answer, HostileProxy, Mutation, edit
from projects import RECIPE, Project
from quantmill.artifact import Artifact
from quantmill.disk import sha256_file
from quantmill.store.descent import records
from quantmill.store.key import StepKey
from quantmill.store.remote.bucket import Bucket
from quantmill.store.remote.client import SharedStore
from quantmill.store.remote.settings import Settings
from quantmill.store.remote.transfer import unit
from quantmill.store.shared import Gone
from s3_server import S3Server
from team import AS_WRITER, Team, s3_url

CHUNK = 256 << 10
SMALL = RECIPE.replace('"BF16", "Q8_0", "Q4_K_M", "Q2_K"', '"Q8_0", "Q4_K_M", "Q2_K"')
FOUND = {
    "Content-Type": "application/json",
    "ETag": '"x"',
    "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT",
}
KINDS = ("record", "signature", "object", "list", "chunk", "lease", "pointer")


@dataclass(frozen=True)
class Case:
    """One thing that is asked for while the server answers by a mutation; all of it follows from `seed`.

    `of`: for which step or task, or the object's digest
    `name`: what is mutated there
    """

    seed: str
    kind: str
    mutation: Mutation
    of: str
    name: str

    def __str__(self) -> str:
        return f"{self.seed}: {self.mutation.__name__} of the {self.kind} {self.name}"


class Good:
    """A writer's build at a server, and all that is there. `release` is what each build has to make."""

    def __init__(self, writer: Project, server: S3Server, folder: Path) -> None:
        self.server, self.url = server, s3_url("hostile")
        self.team = Team(folder, self.url, server.endpoint)
        self.team.join(writer, sign=True, chunk="256KiB").run("doit", **AS_WRITER)
        self.release = writer.release()
        found = [(digest, record) for digest, record in records(writer.folder / "cache")]
        self.keys = {digest: StepKey(**record["key"]) for digest, record in found}
        self.tasks = {record["task"]: digest for digest, record in found}
        self.outputs = {
            digest: {name: (fact["sha256"], fact["size"]) for name, fact in record["outputs"].items()}
            for digest, record in found
        }
        self.sizes = dict(fact for facts in self.outputs.values() for fact in facts.values())
        bucket = self._bucket()
        self.there = {name: bytes(obstore.get(bucket._store, name).bytes()) for name, _ in bucket.list("")}
        self.large = sorted(sha256 for sha256, size in self.sizes.items() if size > unit(size, CHUNK))
        self.small = sorted(self.sizes.keys() - set(self.large))

    def _bucket(self) -> Bucket:
        return Bucket(Settings(self.url, endpoint=self.server.endpoint, region="us-east-1"))

    def case(self, seed: str, slow: float) -> Case:
        """The case of that seed; `slow`: how often it is one that takes its time."""
        rng = random.Random(seed)
        kind = rng.choice(KINDS)
        mutation = rng.choice(SLOW if rng.random() < slow else QUICK)
        if kind == "signature" and mutation is edit:
            mutation = _other_signature
        if kind in ("record", "signature", "lease"):
            of = rng.choice(sorted(self.keys))
            return Case(seed, kind, mutation, of, f"{'lease' if kind == 'lease' else 'ac'}/{of}")
        if kind == "pointer":
            of = rng.choice(sorted(self.tasks))
            return Case(seed, kind, mutation, of, f"task/{of.replace(':', '/')}")
        of = rng.choice(self.small if kind == "object" else self.large)
        if kind == "chunk":
            return Case(seed, kind, mutation, of, f"cas/{rng.choice(json.loads(self.there[f'chunks/{of}'])['chunks'])}")
        return Case(seed, kind, mutation, of, f"cas/{of}" if kind == "object" else f"chunks/{of}")

    def change(self, case: Case) -> Callable[[str, Answer], None]:
        """What the server does in this case."""
        rng, beats, lock = random.Random(f"{case.seed} answers"), 0, threading.Lock()
        folder = case.name.partition("/")[0]
        alike = {name: data for name, data in self.there.items() if name.startswith(f"{folder}/")}

        def change(method: str, answer: Answer) -> None:
            nonlocal beats
            path = unquote(answer.path.partition("?")[0])
            if case.kind == "lease" and "/ac/" in path:  # nobody has made it yet
                answer.status, answer.body = 404, b"<Error><Code>NoSuchKey</Code></Error>"
            if not path.endswith(f"/{case.name}"):
                return
            if case.kind == "lease":
                beats += 1
                answer.status, answer.headers = 200, dict(FOUND)
                answer.body = json.dumps({"owner": "0" * 32, "beat": beats}).encode()
            with lock:
                others = self.there if rng.random() < 0.3 or not alike else alike
                case.mutation(rng, answer, others)

        return change

    def ask(self, case: Case, proxy: HostileProxy, folder: Path) -> str:
        """Ask as a reader with an empty store does; what was wrong with what came, or nothing."""
        proxy.change = self.change(case)
        settings = Settings(
            *(self.url, (self.team.public,)),
            endpoint=proxy.endpoint,
            region="us-east-1",
            chunk=CHUNK,
            parallel=2,
            timeout=2,
            retries=2,
            lease=0.5,
        )
        store = SharedStore(settings, folder, lambda address, event, facts: None)
        try:
            return self._wrong(case, store, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _wrong(self, case: Case, store: SharedStore, folder: Path) -> str:
        if case.kind in ("record", "signature"):
            found = store.find(self.keys[case.of])
            return "another record" if found and dict(found.outputs) != self.outputs[case.of] else ""
        if case.kind == "pointer":
            latest = store.latest(case.of)
            return "" if latest is None or StepKey(**latest).digest() in self.keys else "another key"
        if case.kind == "lease":
            with store.claim(self.keys[case.of], "task", lambda: 0.1) as found:
                return "a record from nowhere" if found else ""
        artifact, part = Artifact(folder / case.of, case.of, self.sizes[case.of]), folder / "part" / case.of
        try:
            store.fetch(artifact, part, lambda count: None, lambda: 0.1)
        except Gone:
            return ""
        return "" if sha256_file(part) == case.of else "wrong bytes"


def _other_signature(rng: random.Random, answer: Answer, others: Any) -> None:
    """The signature or its key is another."""
    envelope = json.loads(answer.body)
    signature = envelope["signatures"][0]
    which = rng.choice(("flip", "keyid", "none", "twice", "edit"))
    if which == "flip":
        data = bytearray(base64.b64decode(signature["sig"]) if not _hex(signature["sig"]) else b"")
        data = data or bytearray.fromhex(signature["sig"])
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        signature["sig"] = data.hex() if _hex(signature["sig"]) else base64.b64encode(data).decode()
    elif which == "keyid":
        signature["keyid"] = rng.choice(("", "0" * 64, signature["keyid"].upper(), hashlib.sha256(b"x").hexdigest()))
    elif which == "none":
        envelope["signatures"] = []
    elif which == "twice":
        envelope["signatures"] = [{**signature, "sig": "00" * 64}, signature]
    else:
        part = replace(answer, body=json.dumps(envelope["signatures"]).encode())
        edit(rng, part, others)
        answer.body = answer.body.replace(json.dumps(envelope["signatures"]).encode(), part.body)
        return
    answer.body = json.dumps(envelope).encode()


def _hex(text: str) -> bool:
    return not text.strip("0123456789abcdef")


def quick_minutes(patch: Callable[[str, float], None]) -> None:
    """What is a minute for people is a second for tests: `patch(name, value)` sets it."""
    patch("quantmill.store.remote.waiting.GRACE", 1.0)
    patch("quantmill.store.remote.client.GRACE", 1.0)
    patch("quantmill.store.remote.waiting.MEASURED", 0.3)


def timed(call: Callable[[], str]) -> tuple[float, str]:
    """Seconds, and what came of it; of an exception, that."""
    began = time.monotonic()
    try:
        found = call()
    except Exception as error:
        import traceback

        found = f"raised {error!r}\n{traceback.format_exc()}"
    return time.monotonic() - began, found
