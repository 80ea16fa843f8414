"""Readers of a store whose server answers anything: nothing wrong is taken, and nothing is raised.

benchmarks/hostile_bucket.py asks for more, and builds whole releases.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hostile.cases import SMALL, Good, quick_minutes
from hostile.proxy import HostileProxy
from projects import Project, new_project
from s3_server import S3Server
from team import AS_READER, AS_WRITER

CASES, GROUPS = 240, 8


@pytest.fixture(scope="module")
def good(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Good:
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in AS_WRITER.items():
            patch.setenv(name, value)
        return Good(new_project(folder / "writer", SMALL), s3, folder)


@pytest.fixture
def proxy(good: Good) -> Iterator[HostileProxy]:
    found = HostileProxy(good.server.port, lambda method, answer: None)
    yield found
    found.stop()


@pytest.mark.parametrize("group", range(GROUPS))
def test_whatever_is_answered_a_reader_takes_nothing_wrong(
    group: int, good: Good, proxy: HostileProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_minutes(monkeypatch.setattr)
    for name, value in AS_READER.items():
        monkeypatch.setenv(name, value)
    for number in range(group, CASES, GROUPS):
        case = good.case(f"test/{number}", 0.03)
        assert good.ask(case, proxy, tmp_path / "cache") == "", str(case)


def test_undisturbed_everything_is_had(good: Good, proxy: HostileProxy, make_project: Callable[..., Project]) -> None:
    """So that the cases above prove something."""
    reader = good.team.join(make_project("reader", SMALL), endpoint=proxy.endpoint)
    assert reader.run("doit", **AS_READER).stdout.splitlines()[-1].startswith("0 run, ")
    assert reader.release() == good.release
    assert proxy.count > len(good.tasks)
    assert len(good.large) > 2
    assert len(good.small) > 2
