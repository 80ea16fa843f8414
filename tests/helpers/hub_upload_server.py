"""A Hub that takes uploads, on loopback: repositories, preupload, git-lfs (whole and in parts), commits, tags, trees.

It speaks what huggingface_hub says, keeps everything in memory, believes nothing (every object is hashed, a commit of
an object that did not arrive is refused), and breaks as many connections as it is told to, by a seed.
"""

import base64
import hashlib
import json
import random
import re
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_loopback"
PART = 100_000  # bytes; larger objects come in parts of this size
LFS = (".gguf", ".imatrix", ".npy")  # the endings that go to LFS, beside what is large
LARGE = 1 << 20
INITIAL = {".gitattributes": b"*.gguf filter=lfs diff=lfs merge=lfs -text\n"}


class Repo:
    """Commits in order, each a whole tree: path → content, or an LFS object's sha256."""

    def __init__(self, private: bool = False) -> None:
        self.private = private
        self.commits: list[tuple[str, dict[str, bytes | str], str]] = []
        self.tags: dict[str, str] = {}
        self.commit(dict(INITIAL), "initial commit")

    def commit(self, tree: dict[str, bytes | str], title: str) -> str:
        text = repr((len(self.commits), sorted(tree.items()), title)).encode()
        self.commits.append((hashlib.sha1(text).hexdigest(), tree, title))
        return self.commits[-1][0]

    def resolve(self, revision: str) -> tuple[str, dict[str, bytes | str]] | None:
        wanted = self.tags.get(revision, self.commits[-1][0] if revision == "main" else revision)
        return next(((oid, tree) for oid, tree, _ in self.commits if oid == wanted), None)


class UploadHub:
    """The server. `breaks`: how many connections are still to be broken; `broken`: how many were, by their kind."""

    def __init__(self, seed: int = 0) -> None:
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.received: dict[str, int] = {}  # bytes of each object that arrived
        self.again = 0  # bytes of objects that arrived when they were there already
        self.watch: Callable[[], object] = lambda: None  # called with each request
        self.asked: list[str] = []
        self.breaks = 0
        self.broken: dict[str, int] = {}
        self.random = random.Random(seed)
        self.lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def content(self, repo: str, revision: str) -> dict[str, bytes]:
        """Every file at a revision, as a download would give it."""
        found = self.repos[repo].resolve(revision)
        assert found is not None, revision
        return {name: self.objects[data] if isinstance(data, str) else data for name, data in found[1].items()}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def how_to_break(self) -> str:
        """What happens to a connection: nothing, or one of the ways to lose it."""
        with self.lock:
            if self.breaks <= 0 or self.random.random() < 0.4:
                return ""
            self.breaks -= 1
            kind = self.random.choice(("before", "within the body", "before the answer", "within the answer"))
            self.broken[kind] = self.broken.get(kind, 0) + 1
            return kind


class _Handler(BaseHTTPRequestHandler):
    hub: UploadHub

    def log_message(self, format: str, *arguments: object) -> None: ...

    def _any(self) -> None:
        self.close_connection = True
        kind = self.hub.how_to_break()
        if kind == "before":
            return
        length = int(self.headers.get("Content-Length", 0))
        if kind == "within the body" and length:
            self.rfile.read(length // 2)
            return
        body = self._chunked() if "chunked" in self.headers.get("Transfer-Encoding", "") else self.rfile.read(length)
        if len(body) < length:  # the client is gone
            return
        with self.hub.lock:
            self.hub.asked.append(f"{self.command} {self.path}")
            self.hub.watch()
            status, headers, answer = self._answer(body)
        if kind == "before the answer":  # it is done, and nobody hears of it
            return
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if kind else data)

    do_GET = do_HEAD = do_POST = do_PUT = _any

    def _chunked(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline() or b"0", 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _answer(self, body: bytes) -> tuple[int, Mapping[str, str], Any]:
        url = urlsplit(self.path)
        if url.path.startswith("/objects/"):  # another host's, at the Hub: signed addresses, no token
            return self._object(url.path.split("/")[2], parse_qs(url.query), body)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {}, {"error": "Invalid username or password."}
        data = json.loads(body) if body[:1] == b"{" and "/commit/" not in url.path else {}
        if url.path == "/api/repos/create":
            name = f"{data.get('organization') or 'someone'}/{data['name']}"
            if name in self.hub.repos:
                return 409, {}, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}
            self.hub.repos[name] = Repo(private=data.get("visibility") == "private" or bool(data.get("private")))
            return 200, {}, {"url": f"{self.hub.url}/{name}", "name": name}
        if url.path == "/api/validate-yaml":
            return 200, {}, {"errors": [], "warnings": []}
        found = re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+?)(\.git/info/lfs/objects/batch|/.*)?", url.path)
        assert found, url.path
        name, rest = found[1], unquote(found[2] or "")
        repo = self.hub.repos.get(name)
        if repo is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, {"error": "Repository not found"}
        return self._repo(repo, name, rest, data, body)

    def _repo(self, repo: Repo, name: str, rest: str, data: Any, body: bytes) -> tuple[int, Mapping[str, str], Any]:
        if rest.endswith("/objects/batch"):
            return 200, {}, {"transfer": "basic", "objects": [self._batch(item) for item in data["objects"]]}
        if rest == "/refs":
            refs = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": at} for tag, at in repo.tags.items()]
            head = {"name": "main", "ref": "refs/heads/main", "targetCommit": repo.commits[-1][0]}
            return 200, {}, {"branches": [head], "tags": refs, "converts": []}
        verb, _, revision = rest.lstrip("/").partition("/")
        revision, _, path = revision.partition("/") if verb in ("resolve", "tree", "revision") else (revision, "", "")
        at = repo.resolve(revision or "main")
        if at is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, {"error": "Invalid rev id"}
        oid, tree = at
        if verb == "preupload":
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LFS) or file["size"] > LARGE else "regular",
                    "shouldIgnore": False,
                }
                for file in data["files"]
            ]
            return 200, {}, {"files": modes}
        if verb == "commit":
            return self._commit(repo, name, tree, [json.loads(line) for line in body.splitlines()])
        if verb == "tag":
            if data["tag"] in repo.tags:
                return 409, {}, {"error": f"Tag reference exists already: {data['tag']}"}
            repo.tags[data["tag"]] = oid
            return 200, {}, {}
        if verb == "tree":
            return 200, {}, [self._entry(file, content) for file, content in sorted(tree.items())]
        if verb == "resolve":
            if path not in tree:
                return 404, {"X-Error-Code": "EntryNotFound"}, {"error": "Entry not found"}
            content = tree[path]
            whole = self.hub.objects[content] if isinstance(content, str) else content
            return 200, {"ETag": f'"{oid}"', "X-Repo-Commit": oid, "Content-Type": "application/octet-stream"}, whole
        assert verb in ("", "revision"), rest
        return 200, {}, {"id": name, "modelId": name, "sha": oid, "siblings": [{"rfilename": file} for file in tree]}

    def _entry(self, path: str, content: bytes | str) -> dict[str, Any]:
        if isinstance(content, str):
            size, blob = len(self.hub.objects[content]), hashlib.sha1(content.encode()).hexdigest()
            more: dict[str, Any] = {"lfs": {"oid": content, "size": size, "pointerSize": 134}}
        else:
            size, more = len(content), {}
            blob = hashlib.sha1(b"blob %d\0" % size + content).hexdigest()
        return {"type": "file", "oid": blob, "size": size, "path": path, **more}

    def _batch(self, item: Mapping[str, Any]) -> dict[str, Any]:
        oid, size = item["oid"], item["size"]
        if oid in self.hub.objects:
            return {"oid": oid, "size": size}
        href = f"{self.hub.url}/objects/{oid}"
        upload: dict[str, Any] = {"href": href}
        if size > PART:
            count = -(-size // PART)
            parts = {str(number): f"{href}?part={number}" for number in range(1, count + 1)}
            upload = {"href": f"{href}?complete={count}", "header": {"chunk_size": str(PART), **parts}}
        return {"oid": oid, "size": size, "actions": {"upload": upload, "verify": {"href": f"{href}?verify=1"}}}

    def _object(self, oid: str, query: Mapping[str, list[str]], body: bytes) -> tuple[int, Mapping[str, str], Any]:
        hub = self.hub
        if "verify" in query:
            return (200 if len(hub.objects.get(oid, b"")) == json.loads(body)["size"] else 404), {}, {}
        if "complete" in query:
            said = json.loads(body)["parts"]
            data = b"".join(hub.parts.get((oid, part["partNumber"]), b"") for part in said)
            etags = [hashlib.md5(hub.parts.get((oid, part["partNumber"]), b"")).hexdigest() for part in said]
            if len(said) != int(query["complete"][0]) or etags != [part["etag"].strip('"') for part in said]:
                return 400, {}, {"error": "parts are missing"}
            return self._keep(oid, data)
        hub.received[oid] = hub.received.get(oid, 0) + len(body)
        hub.again += len(body) if oid in hub.objects else 0
        if "part" in query:
            hub.parts[oid, int(query["part"][0])] = body
            return 200, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}, b""
        return self._keep(oid, body)

    def _keep(self, oid: str, data: bytes) -> tuple[int, Mapping[str, str], Any]:
        if hashlib.sha256(data).hexdigest() != oid:
            return 400, {}, {"error": "the content has another digest"}
        self.hub.objects[oid] = data
        return 200, {}, {}

    def _commit(
        self, repo: Repo, name: str, tree: Mapping[str, bytes | str], lines: list[Any]
    ) -> tuple[int, Mapping[str, str], Any]:
        title, after = "", dict(tree)
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                title = value["summary"]
            elif line["key"] == "file":
                after[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del after[value["path"]]
            elif line["key"] == "lfsFile" and value["oid"] in self.hub.objects:
                after[value["path"]] = value["oid"]
            else:
                return 400, {}, {"error": f"cannot commit {line['key']} {value.get('path')}"}
        oid = repo.commit(after, title)
        return 200, {}, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"}
