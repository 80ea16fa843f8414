"""The shared store against a real S3 server, SeaweedFS: python benchmarks/team.py WHAT [--count N]

default  the default recipe by a writer, then by a reader in an empty clone: what it ran, and whether bytes are equal
faults   500 faults between builds and server: how every build ended, and whether anything wrong was kept
clients  20 builds of one recipe at once: how often each step was run in total
resume   2 GB sent and fetched, each killed 10 times at random: bytes moved against the object's size
gc       `cache gc` 50 times beside builds that change their recipe: what was lost
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from fault_proxy import FAULTS, FaultProxy  # noqa: E402
from projects import RECIPE, Project  # noqa: E402
from quantmill.disk import sha256_file  # noqa: E402
from quantmill.store.care.check import verify_store  # noqa: E402
from quantmill.store.local import Store  # noqa: E402
from s3_server import S3Server  # noqa: E402
from team import AS_READER, AS_WRITER, TRANSFER, Team, s3_url  # noqa: E402

SIGNATURE = "provenance.dsse.json"  # beside the statement, by whoever has a key
MATRIX = '"BF16", "Q8_0", "Q4_K_M", "Q2_K"'
SMALL = RECIPE.replace(MATRIX, '"Q8_0", "Q2_K"')


def project(folder: Path, name: str, text: str = SMALL) -> Project:
    """An empty clone with the recipe `small`."""
    made = Project(folder / name)
    (made.folder / "recipes").mkdir(parents=True)
    entry = (ROOT / "dodo.py").read_text()
    (made.folder / "dodo.py").write_text(entry.replace('default="tiny"', 'default="small"'))
    shutil.copytree(ROOT / "recipes" / "tiny", made.folder / "recipes" / "tiny")
    made.recipe.write_text(text)
    return made


def digests(folder: Path) -> dict[str, str]:
    """sha256 of each file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def default(folder: Path, server: S3Server) -> None:
    """Bar 1."""
    team, releases = Team(folder, s3_url("default"), server.endpoint), []
    for name, who in (("writer", AS_WRITER), ("reader", AS_READER)):
        made = Project(folder / name)
        made.folder.mkdir()
        shutil.copy(ROOT / "dodo.py", made.folder)
        shutil.copytree(ROOT / "recipes", made.folder / "recipes")
        team.join(made, sign=name == "writer", chunk="256MiB")
        began = time.monotonic()
        kernels = {"QUANTMILL_ISA": "none may run"} if name == "reader" else {}
        last = made.run("doit", "-n", "2", **who, **kernels).stdout.splitlines()[-1]
        print(f"{name}: {last} ({time.monotonic() - began:.1f} s with its start)")
        releases.append(digests(made.folder / "release"))
    differ = [
        name for name in releases[0] if releases[0][name] != releases[1].get(name) and not name.endswith(SIGNATURE)
    ]
    stray = releases[1].keys() - releases[0].keys()
    equal = f"byte-identical but for the writer's signature: {not differ and not stray}"
    print(f"{len(releases[0])} released files, {equal}", *differ, *stray)


def faults(folder: Path, server: S3Server, wanted: int) -> None:
    """Bar 2."""
    chance, done, expected = random.Random(2), Counter[str](), None
    kinds: Counter[str] = Counter()
    total = rounds = wrong = 0
    while total < wanted:
        rounds += 1

        def choose(method: str, path: str) -> str | None:
            if chance.random() > 0.25:
                return None
            kinds[fault := "expired" if chance.random() < 0.02 else chance.choice(FAULTS[:-1])] += 1
            return fault

        proxy = FaultProxy(server.port, choose)
        team = Team(folder, s3_url(f"faults{rounds}"), proxy.endpoint)
        for name, who in (("writer", AS_WRITER), ("reader", AS_READER), ("reader after", AS_READER)):
            if name == "reader after":
                proxy.choose = lambda method, path: None
            made = team.join(project(folder, f"{rounds}{name}"), sign=name == "writer")
            run = made.run("doit", check=None, **who)
            ok = run.returncode == 0
            expected = expected or (made.release() if ok else None)
            done["right" if ok and made.release() == expected else "error" if not ok else "WRONG BYTES"] += 1
            if not ok:
                print(run.stderr)
            wrong += len(verify_store(Store(made.folder / "cache")).damaged)
            shutil.rmtree(made.folder)
        proxy.stop()
        (folder / "team.key").unlink()
        total += proxy.count
    print(f"{total} faults in {rounds * 3} builds: {dict(done)}; wrong objects in local stores: {wrong}")
    print(", ".join(f"{name} {count}" for name, count in kinds.most_common()))


def clients(folder: Path, server: S3Server, count: int) -> None:
    """Bar 4."""
    team = Team(folder, s3_url("clients"), server.endpoint)
    made = [team.join(project(folder, f"client{n}", RECIPE), sign=True, lease=60) for n in range(count)]
    doit, environment = str(Path(sys.executable).parent / "doit"), {**os.environ, **AS_WRITER}
    began = time.monotonic()
    running = [
        subprocess.Popen([doit], cwd=one.folder, env=environment, stdout=subprocess.PIPE, text=True) for one in made
    ]
    ended = [run.communicate()[0] for run in running]
    lines = [line for text in ended for line in text.splitlines() if not line.startswith("  ")]
    ran = Counter(line.split(": ")[0] for line in lines if ": from " not in line and " run, " not in line)
    same = {json.dumps(digests(one.folder / "release")) for one in made}
    print(
        f"{count} clients in {time.monotonic() - began:.1f} s, exit codes {Counter(run.returncode for run in running)}"
    )
    print(f"{len(ran)} steps, run in total {sum(ran.values())} times; most often {ran.most_common(2)}")
    print(f"releases that differ from each other: {len(same) - 1}")


def resume(folder: Path, server: S3Server, size: int) -> None:
    """Bar 5."""
    proxy, chance = FaultProxy(server.port, lambda method, path: None), random.Random(5)
    url, source, part = s3_url("resume"), folder / "source", folder / "part"
    with open(source, "wb") as file:
        for _ in range(size >> 20):
            file.write(chance.randbytes(1 << 20))
    sha256 = sha256_file(source)
    os.environ.update(AS_WRITER)
    for action, path in (("send", source), ("fetch", part)):
        call = [url, proxy.endpoint, action, str(path), sha256, str(size), str(256 << 20)]
        begin, stops = proxy.received + proxy.sent, sorted(chance.random() for _ in range(10))
        for stop in stops:
            run = subprocess.Popen([sys.executable, "-c", TRANSFER, *call])
            while proxy.received + proxy.sent < begin + stop * size and run.poll() is None:
                time.sleep(0.005)
            run.kill()
            run.wait()
        subprocess.run([sys.executable, "-c", TRANSFER, *call], check=True)
        moved = proxy.received + proxy.sent - begin
        print(f"{action}: {size} bytes, killed {len(stops)} times, moved {moved / size:.3f} times its bytes")
    print("arrived whole:", sha256_file(part) == sha256)


def gc(folder: Path, count: int) -> None:
    """Bar 8."""
    made, lost, removed = project(folder, "gc", RECIPE), 0, Counter[str]()
    program, chance = Path(sys.executable).parent, random.Random(8)
    types = ["BF16", "Q8_0", "Q4_K_M", "Q2_K", "Q6_K", "Q5_K_M", "Q3_K_S", "Q4_0"]
    for _ in range(count):
        chosen = ", ".join(f'"{name}"' for name in chance.sample(types, 3))
        made.recipe.write_text(RECIPE.replace(MATRIX, chosen))
        run = subprocess.Popen([program / "doit", "-n", "2"], cwd=made.folder, stdout=subprocess.PIPE, text=True)
        time.sleep(chance.random())
        keep = ("--keep", "pointers", "--keep", "releases", "--json")
        found = json.loads(made.run("quantmill", "cache", "gc", *keep).stdout)
        removed.update({key: found[key] for key in ("records", "objects", "leftovers")})
        built, again = run.communicate()[0], made.run("doit").stdout
        if run.returncode != 0 or again != "nothing to do: everything is up to date\n":
            print(f"{found}\n{built}{again}")
            lost += 1
        sums = subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=made.folder / "release" / "small")
        lost += sums.returncode != 0
    damaged = verify_store(Store(made.folder / "cache")).damaged
    print(f"{count} collections beside builds removed {dict(removed)}; lost or failed: {lost}; damaged: {len(damaged)}")


def main() -> None:
    """Run one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("default", "faults", "clients", "resume", "gc"))
    parser.add_argument("--count", type=int, help="of faults (500), clients (20), MiB (2048) or collections (50)")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.what == "gc":
            return gc(folder, options.count or 50)
        (folder / "s3").mkdir()
        server = S3Server(folder / "s3")
        stack.callback(server.stop)
        if options.what == "default":
            return default(folder, server)
        if options.what == "faults":
            return faults(folder, server, options.count or 500)
        if options.what == "clients":
            return clients(folder, server, options.count or 20)
        return resume(folder, server, (options.count or 2048) << 20)


if __name__ == "__main__":
    main()
