"""build --timings: a page of when each task ran, beside what it was thought to take."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from projects import Project
from quantmill.build.local.timings import TaskTime, Timings
from quantmill.forecast import kept_rates
from quantmill.forecast.timings_page import timings_page


class Page(HTMLParser):
    """What a page holds: counts of its elements, and the cells of its tables by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.counts, self.rows, self.addresses = list[str](), dict[str, int](), list[list[str]](), list[str]()
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "line", "polyline"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.rows[-1].append(data)


def test_a_build_tells_when_its_tasks_ran(project: Project, tmp_path: Path) -> None:
    known = {"XDG_CACHE_HOME": str(tmp_path / "rates")}
    done = project.run("quantmill", "build", "small", "-n", "2", "--timings", "page.html", **known).stdout
    ran = set(re.findall(r"^(\w+:\S+)$", done, re.MULTILINE))
    page = Page((project.folder / "page.html").read_text())
    assert not page.addresses
    assert {row[0] for row in page.rows if row and ":" in row[0]} == ran
    assert page.counts["rect"] == len(ran) == 17
    steps = {row[0]: row for row in page.rows if row and ":" not in row[0]}
    assert steps["quant"][1] == "3"
    planned = {row[0] for row in page.rows if len(row) == 5 and row[3]}
    assert {"quant:small/Q4_K_M", "verify:small/Q8_0", "convert:small", "quant"} <= planned
    project.run("quantmill", "build", "small", "--timings", "page.html", **known)
    assert "0 tasks ran in" in (project.folder / "page.html").read_text()


def test_names_are_escaped_and_a_build_without_a_plan_is_shown() -> None:
    page = timings_page("<b>", [TaskTime("quant:<i>", 0.0, 2.0), TaskTime("verify:x", 1.0, 3.0, 4.0)], 3.0)
    assert "<b>" not in page
    assert "<i>" not in page
    found = Page(page)
    assert ["verify", "1", "2.0", "4.0", "0.50"] in found.rows
    assert "tasks at once (at most 2)" in page


def test_what_came_from_a_store_took_no_time() -> None:
    times, heard = iter([0.0, 1.0, 3.0]), list[str]()
    timings = Timings(lambda: next(times, 9.0))
    report = timings.before(lambda name, event, facts: heard.append(event))
    for name, event in (("a:x", "start"), ("a:x", "done"), ("b:x", "hit"), ("b:x", "done")):
        report(name, event, {})
    assert heard == ["start", "done", "hit", "done"]
    assert timings.planned({"a:x": 8.0, "b:x": 1.0}, 4) == [TaskTime("a:x", 1.0, 3.0, 2.0)]


def test_rates_that_are_off_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kept_rates, "_known", {})
    assert kept_rates.kept("anything", lambda: 5.0) == 5.0
    (path,) = (tmp_path / "quantmill").iterdir()
    assert json.loads(path.read_text())["anything"] == 5.0
    kept_rates.forget()
    assert not path.exists()
    assert kept_rates.kept("anything", lambda: 4.0) == 4.0
