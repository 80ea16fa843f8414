"""Workers that a build starts itself, an imatrix that they share, and clusters that ask for TLS."""

import datetime
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dask_cluster import BIN, started
from listening import family, knock, listening
from projects import RECIPE, TINY, Project

IN_WAVES = """
import sys
from pathlib import Path
from quantmill.distributed.driver import Cluster, build

if __name__ == "__main__":
    sys.exit(build(Path("recipes/small.toml"), Path.cwd(), [], False, Cluster(workers=2, threads=1), parts_from=0))
"""
ONE_FILE = RECIPE.replace('matrix = ["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', 'matrix = ["Q8_0"]')
ALERT = b"\x15"  # the first byte of TLS's
SLOW = "import time, quantmill.steps.convert as c; object.__setattr__(c.STEP, 'run', lambda *a: time.sleep(600))"


@contextmanager
def converting(project: Project, temporary: Path) -> Iterator[subprocess.Popen[str]]:
    """A build in the middle of a step that takes long, on one of two workers."""
    temporary.mkdir()
    path = [str(project.folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    (project.folder / "sitecustomize.py").write_text(SLOW)
    with subprocess.Popen(
        [str(BIN / "quantmill"), "build", "small", "--engine", "dask", "--workers", "2"],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        assert run.stdout is not None
        try:
            assert "convert:small\n" in iter(run.stdout.readline, "")
            yield run
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    (project.folder / "sitecustomize.py").unlink()


def test_an_interrupt_is_one_sentence_and_costs_nothing_finished(project: Project, tmp_path: Path) -> None:
    """Ctrl-C while a worker is in the middle of a step that takes long."""
    with converting(project, tmp_path / "temporary") as run:
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the driver and its workers hear it
        _, said = run.communicate(timeout=60)
    assert run.returncode == 1, said
    assert said == "quantmill: interrupted; finished work is kept, run the same command to go on\n"
    assert not list((tmp_path / "temporary").iterdir())
    ran = project.ran("doit")
    assert "convert:small" in ran
    assert "download:small" not in ran


def test_another_user_gets_only_refused_handshakes_of_a_build(project: Project, tmp_path: Path) -> None:
    stranger = certificate(tmp_path, "stranger")
    with converting(project, tmp_path / "temporary") as run:
        sockets = {pid: found for pid in family(run.pid) if (found := listening(pid))}
        assert len(sockets[run.pid]) == 3  # a scheduler and two nannies
        assert [len(found) for found in sockets.values()] == [3, 1, 1]
        every = [socket for found in sockets.values() for socket in found]
        assert {host for host, _ in every} == {"127.0.0.1"}
        for answers in knock([port for _, port in every], *stranger):
            assert bytes.fromhex(answers.pop("plain"))[:1] in (b"", ALERT)
            assert {way: reason.partition("_ALERT_")[2] for way, reason in answers.items()} == {
                "tls 1.2": "HANDSHAKE_FAILURE",
                "tls 1.3": "CERTIFICATE_REQUIRED",
                "a stranger": "UNKNOWN_CA",
            }
        assert {path.stat().st_mode & 0o077 for path in (tmp_path / "temporary").iterdir()} == {0}
        os.killpg(run.pid, signal.SIGINT)
        run.communicate(timeout=60)
    assert run.returncode == 1


def test_modules_that_another_user_lays_out_for_dask_are_not_run(project: Project, tmp_path: Path) -> None:
    """Dask puts a folder of a known name on Python's path, before all others."""
    project.recipe.write_text(ONE_FILE)
    folder, ran = tmp_path / "temporary" / "dask-scratch-space", tmp_path / "ran"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    for name in sys.stdlib_module_names:
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write(__name__)\nraise ImportError(__name__)\n")
    done = project.run(
        "quantmill", "build", "small", "--engine", "dask", "--workers", "2", check=None, TMPDIR=str(folder.parent)
    )
    assert not ran.exists()
    assert done.returncode == 0, done.stderr
    assert list(folder.parent.iterdir()) == [folder]


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for this machine that is its own authority, and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / f"{name}.pem", folder / f"{name}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    kind, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, plain))
    return paths


def test_a_cluster_with_tls_takes_whom_its_authority_vouches_for(project: Project, tmp_path: Path) -> None:
    project.recipe.write_text(ONE_FILE)
    ours, key = certificate(tmp_path, "ours")
    theirs, their_key = certificate(tmp_path, "theirs")
    files = ("--tls-ca-file", str(ours), "--tls-cert", str(ours), "--tls-key", str(key))
    with started(tmp_path / "cluster", "--protocol", "tls", *files) as cluster:
        assert cluster.address.startswith("tls://127.0.0.1:")
        cluster.start()
        command = ["quantmill", "build", "small", "--engine", "dask", "--scheduler", cluster.address]

        def build(pem: Path, secret: Path, code: int) -> subprocess.CompletedProcess[str]:
            tls = ["--tls-ca", str(ours), "--tls-cert", str(pem), "--tls-key", str(secret)]
            return project.run(*command, *tls, check=code)

        for refused in (project.run(*command, check=2), build(theirs, their_key, 2)):
            assert refused.stderr.startswith(f"quantmill: {cluster.address}: there is no Dask scheduler that answers")
            assert refused.stderr.count("\n") == 1
            assert not project.release()
        assert "quant:small/Q8_0\n" in build(ours, key, 0).stdout
        assert "small-Q8_0.gguf" in project.release()


def test_an_imatrix_that_workers_share_is_the_one_made_here(make_project: Callable[..., Project]) -> None:
    recipe = ONE_FILE.replace("[quants]", '[calibration]\ntext = "tiny/calibration.txt"\nchunks = 5\n[quants]')
    here, there = make_project("here", recipe), make_project("there", recipe)
    for project in (here, there):
        shutil.copy(TINY / "calibration.txt", project.folder / "recipes" / "tiny")
    here.run("quantmill", "build", "small")
    (there.folder / "build.py").write_text(IN_WAVES)
    done = there.run("python", "build.py")
    assert [line for line in done.stdout.splitlines() if line.startswith(("imatrix", "part"))] == ["imatrix:small"]
    assert there.release() == here.release()
    records = [json.loads(path.read_bytes()) for path in (there.folder / "cache" / "ac").iterdir()]
    waves = [record["key"] for record in records if record["key"]["step"] == "wave"]
    layers = json.loads((TINY / "config.json").read_bytes())["num_hidden_layers"]
    assert len(waves) == 2 * layers
    assert there.run("doit").stdout == "nothing to do: everything is up to date\n"
