"""Rates of this machine, kept between plans."""

from pathlib import Path

import pytest

from quantmill.forecast import kept_rates
from quantmill.forecast.kept_rates import kept


@pytest.fixture
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the user's that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept_rates, "_known", {})
    return tmp_path / "quantmill"


def of(*rates: float) -> float:
    """What is kept when a new process measures these, one after the other."""
    left = list(rates)
    kept_rates._known.clear()
    return kept("one", lambda: left.pop(0))


def test_the_best_is_kept_and_what_is_off_is_measured_anew(anew: Path) -> None:
    assert of(100.0) == 100.0
    assert of(80.0) == 100.0  # a busy machine
    assert of(51.0) == 100.0
    assert of(120.0) == 120.0
    assert of(10.0, 110.0, 20.0) == 120.0  # a moment's disturbance
    assert of(40.0, 44.0, 41.0) == 44.0  # another machine by the same name
    assert of(40.0) == 44.0


def test_a_process_measures_once(anew: Path) -> None:
    left = [1.0]
    assert [kept("two", lambda: left.pop()) for _ in range(3)] == [1.0] * 3


@pytest.mark.parametrize("text", [b"", b"[]", b'{"one": "fast"}', b'{"one": -1.0}', b'{"one": NaN}', b'{"one": 1e999}'])
def test_what_was_kept_may_be_damaged(text: bytes, anew: Path) -> None:
    of(5.0)
    (path,) = anew.iterdir()
    path.write_bytes(text)
    assert of(7.0) == 7.0


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(anew: Path) -> None:
    anew.write_text("no folder")
    assert of(7.0) == 7.0
    assert of(6.0) == 6.0


def test_another_level_of_kernels_has_rates_of_its_own(anew: Path) -> None:
    from quantmill import _kernels

    of(5.0)
    _kernels.set_isa(_kernels.isa_levels()[0])
    if len(_kernels.isa_levels()) > 1:
        assert of(3.0) == 3.0
        assert len(list(anew.iterdir())) == 2
