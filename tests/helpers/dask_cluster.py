"""A Dask cluster of real processes on this machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


@dataclass
class Cluster:
    """A scheduler and workers without nannies, so that one that is killed stays dead; `options` are those of both."""

    folder: Path
    options: tuple[str, ...]
    address: str
    processes: list[subprocess.Popen[bytes]]

    def start(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [str(BIN / "dask"), "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        return self.run([*command, *self.options, *options], environment)

    def run(self, command: list[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        log = open(self.folder / "dask.log", "ab")  # noqa: SIM115 - the process holds it
        with log:
            process = subprocess.Popen(
                command, cwd=self.folder, env={**os.environ, **environment}, stdout=log, stderr=log
            )
        self.processes.append(process)
        return process


@contextmanager
def started(folder: Path, *options: str) -> Iterator[Cluster]:
    """A scheduler, and no workers yet; `options` of the scheduler and of every worker."""
    folder.mkdir()
    made = Cluster(folder, options, "", [])
    file = folder / "scheduler.json"
    command = [str(BIN / "dask"), "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *options]
    made.run([*command, "--scheduler-file", str(file)], {})
    for _ in range(600):
        if file.exists() and file.read_text():
            break
        time.sleep(0.05)
    made.address = json.loads(file.read_text())["address"]
    try:
        yield made
    finally:
        for process in made.processes:
            process.kill()
            process.wait()
