"""Workers that a build starts itself, an imatrix that they share, and clusters that ask for TLS."""

import datetime
import ipaddress
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from dask_cluster import BIN, started
from projects import RECIPE, TINY, Project

IN_WAVES = """
import sys
from pathlib import Path
from quantmill.distributed.driver import Cluster, build

if __name__ == "__main__":
    sys.exit(build(Path("recipes/small.toml"), Path.cwd(), [], False, Cluster(workers=2, threads=1), parts_from=0))
"""
ONE_FILE = RECIPE.replace('matrix = ["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', 'matrix = ["Q8_0"]')
SLOW = "import time, quantmill.steps.convert as c; object.__setattr__(c.STEP, 'run', lambda *a: time.sleep(600))"


def test_an_interrupt_is_one_sentence_and_costs_nothing_finished(project: Project) -> None:
    """Ctrl-C while a worker is in the middle of a step that takes long."""
    (project.folder / "sitecustomize.py").write_text(SLOW)
    with subprocess.Popen(
        [str(BIN / "quantmill"), "build", "small", "--engine", "dask", "--workers", "2"],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(project.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as run:
        assert run.stdout is not None
        assert "convert:small\n" in iter(run.stdout.readline, "")
        try:
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the driver and its workers hear it
            _, said = run.communicate(timeout=60)
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 1, said
    assert said == "quantmill: interrupted; finished work is kept, run the same command to go on\n"
    (project.folder / "sitecustomize.py").unlink()
    ran = project.ran("doit")
    assert "convert:small" in ran
    assert "download:small" not in ran


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
