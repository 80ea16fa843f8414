"""`cache stat`: what is in a store, of which recipes and steps, how old, and how often it served."""

import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from quantmill.disk import names_in
from quantmill.store.care.inventory import objects, records
from quantmill.store.local import Store

DAY = 86_400
AGES = (("a day", DAY), ("a week", 7 * DAY), ("a month", 30 * DAY), ("a year", 365 * DAY))


@dataclass(frozen=True)
class Stat:
    """What a store holds, and how it served.

    `recipes`: name → results and bytes
    `steps`: name → results and bytes
    `ages`: name → results and bytes
    `served`: step → how often it was run, taken from here, and taken from a shared store

    Each object counts once in a table of the first three, for the name that comes first.
    """

    objects: int
    bytes: int
    quarantined: int
    recipes: dict[str, tuple[int, int]]
    steps: dict[str, tuple[int, int]]
    ages: dict[str, tuple[int, int]]
    served: dict[str, dict[str, int]]

    def data(self) -> dict[str, Any]:
        """The figures as plain JSON."""
        tables = {"recipes": self.recipes, "steps": self.steps, "last_used": self.ages}
        rows = {
            title: {name: {"results": count, "bytes": size} for name, (count, size) in table.items()}
            for title, table in tables.items()
        }
        served = {step: {**counts, "hit_rate": hit_rate(counts)} for step, counts in self.served.items()}
        return {"objects": self.objects, "bytes": self.bytes, "quarantined": self.quarantined, **rows, "served": served}


def hit_rate(counts: dict[str, int]) -> float:
    """The part of all lookups that needed no run, from 0 to 1."""
    total = sum(counts.values())
    return round(1 - counts.get("run", 0) / total, 4) if total else 0.0


def stat(store: Store) -> Stat:
    """The figures of a store."""
    sizes = {}
    for path in objects(store):
        with suppress(FileNotFoundError):
            sizes[path.name] = path.stat().st_size
    tables: list[dict[str, list[int]]] = [defaultdict(lambda: [0, 0]) for _ in range(3)]
    seen: list[set[str]] = [set(), set(), set()]
    now = time.time()
    for record in sorted(records(store), key=lambda record: -record.used):
        age = next((f"within {name}" for name, limit in AGES if now - record.used / 1e9 < limit), "longer ago")
        recipe = record.task.partition(":")[2].partition("/")[0] or "unknown"
        for table, taken, name in zip(tables, seen, (recipe, record.step, age), strict=True):
            table[name][0] += 1
            table[name][1] += sum(sizes.get(sha256, 0) for sha256 in record.objects if sha256 not in taken)
            taken.update(record.objects)
    recipes, steps, ages = ({name: (row[0], row[1]) for name, row in table.items()} for table in tables)
    served = {step: dict(counts) for step, counts in sorted(_served(store).items())}
    quarantined = len(names_in(store.root / "quarantine"))
    return Stat(len(sizes), sum(sizes.values()), quarantined, recipes, steps, ages, served)


def _served(store: Store) -> dict[str, Counter[str]]:
    served: dict[str, Counter[str]] = defaultdict(Counter)
    for name in names_in(store.root / "log"):
        with suppress(OSError):
            for line in (store.root / "log" / name).read_text(errors="replace").splitlines():
                words = line.split(" ")
                if len(words) == 3 and words[1] in ("run", "hit", "shared"):
                    served[words[2].partition(":")[0]][words[1]] += 1
    return served
