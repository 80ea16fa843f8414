"""The workers that a build starts itself: for this build alone, whoever else uses the machine."""

import logging
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
from distributed import Nanny, Scheduler, Security, SpecCluster, Worker

from quantmill.errors import UsageError


class _NoPages:
    """Without the HTTP server of Dask's, which tells of the cluster to whoever asks, with TLS and without."""

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """What Dask calls for one; it has no option to leave it out."""


class _Scheduler(_NoPages, Scheduler):  # type: ignore[misc]  # distributed has no types
    pass


class _Worker(_NoPages, Worker):  # type: ignore[misc]
    pass


@contextmanager
def local_cluster(workers: int, threads: int) -> Iterator[SpecCluster]:
    """Processes on this machine that listen on loopback, and only to those who have the key that is made here.

    What they write for a time is in a folder of this user's. Dask puts that on Python's path, and takes one of a known
    name without it, which anyone can make. Ctrl-C is the driver's, which ends the workers; on their own they would end
    with tracebacks.
    """
    with (
        tempfile.TemporaryDirectory(prefix="quantmill-", ignore_cleanup_errors=True) as folder,
        dask.config.set({"temporary-directory": folder}),
    ):
        with _uninterrupted():  # which the workers inherit
            cluster = _started(workers, threads, folder)
        with cluster:
            yield cluster


def _started(workers: int, threads: int, folder: str) -> SpecCluster:
    try:
        security = Security.temporary()
    except ImportError as error:
        raise UsageError(f"--engine dask: {error}; install quantmill[dask]") from None
    common = {"host": "127.0.0.1", "protocol": "tls://", "security": security}
    worker = {
        **common,
        "worker_class": _Worker,
        "nthreads": threads,
        "memory_limit": 0,  # steps bound their memory themselves
        "silence_logs": logging.CRITICAL,
        "env": {"TMPDIR": folder},  # so that nothing stays of one that is killed
    }
    return SpecCluster(
        scheduler={"cls": _Scheduler, "options": {**common, "dashboard": False}},
        workers={number: {"cls": Nanny, "options": worker} for number in range(workers)},
        security=security,
        silence_logs=logging.CRITICAL,
    )


@contextmanager
def _uninterrupted() -> Iterator[None]:
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, heard)
