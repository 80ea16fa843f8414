"""The limit of a shared store's bandwidth, against a clock that only its pauses move."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from quantmill.store.remote.bucket import Bucket
from quantmill.store.remote.settings import Settings, find
from quantmill.store.remote.throttle import Throttle

RATE = 1 << 20
PIECE = 1 << 18


class Clock:
    """Time passes while somebody pauses, and `passed` notes when bytes did."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.passed: list[tuple[float, int]] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.time += seconds


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("QUANTMILL_STORE", raising=False)
    (tmp_path / "shared").mkdir()
    (tmp_path / "quantmill.toml").write_text(f'[store]\nurl = "file://{tmp_path}/shared"\nbandwidth = "1MiB"\n')
    found = find(tmp_path)
    assert found is not None
    return found


def test_no_second_lets_more_than_the_limit_pass() -> None:
    clock = Clock()
    throttle = Throttle(RATE, clock.now, clock.sleep)
    for count in (PIECE, 1, PIECE * 3, 7, PIECE, PIECE * 2, PIECE):
        throttle.take(count)
        clock.passed.append((clock.time, count))
    assert throttle.total == sum(count for _, count in clock.passed) == PIECE * 8 + 8
    assert clock.time - 1000 == pytest.approx((PIECE * 7 + 8) / RATE)  # the last one's time is the next one's to wait
    for began, _ in clock.passed:
        for ended, _ in clock.passed:
            assert sum(count for at, count in clock.passed if began <= at < ended) <= max(0, RATE * (ended - began) + 1)
    clock.sleep(100)  # idle time is not saved up
    began = clock.time
    for _ in range(8):
        throttle.take(PIECE)
    assert clock.time - began == pytest.approx(7 * PIECE / RATE)


def test_without_a_limit_nobody_pauses() -> None:
    clock = Clock()
    throttle = Throttle(None, clock.now, clock.sleep)
    throttle.take(1 << 40)
    assert (clock.time, throttle.total) == (1000.0, 1 << 40)


def test_the_settings_limit_holds_for_what_is_sent_and_for_what_is_fetched(settings: Settings) -> None:
    assert settings.bandwidth == RATE
    bucket, data = Bucket(settings), bytes(range(256)) * (PIECE * 192 // 256)
    for limit in (bucket.sending, bucket.receiving):
        assert limit._rate == RATE
    sending, receiving = Clock(), Clock()
    bucket.sending = Throttle(settings.bandwidth, sending.now, sending.sleep)
    bucket.receiving = Throttle(settings.bandwidth, receiving.now, receiving.sleep)

    def pieces() -> Iterator[bytes]:
        return (data[at : at + PIECE] for at in range(0, len(data), PIECE))

    bucket.put_pieces("cas/large", len(data), pieces)
    assert bucket.sending.total == len(data)
    assert sending.time - 1000 == pytest.approx((len(data) - PIECE) / RATE)
    found = bytearray()
    assert bucket.read("cas/large", 0, len(data), found.extend)
    assert found == data
    assert bucket.receiving.total == len(data)
    largest = 16 << 20  # of one request
    assert (len(data) - largest) / RATE <= receiving.time - 1000 <= len(data) / RATE
