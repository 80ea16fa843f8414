"""Short conversations made from facts and templates, for the form of a chat and when to stop."""

import random
import re
from collections.abc import Mapping
from typing import Any

Talk = list[dict[str, str]]

SYSTEMS = (
    "You are a helpful assistant.",
    "You are a concise assistant.",
    "Answer briefly.",
    "You are a friendly guide to the world.",
    "Answer in one sentence.",
)
GREETINGS = (
    ("Hello!", "Hello! How can I help you today?"),
    ("Hi there", "Hi! What would you like to know?"),
    ("Good morning", "Good morning! What can I do for you?"),
    (
        "Who are you?",
        "I am a very small language model. I live in a single file and was trained to test other software.",
    ),
    (
        "What can you do?",
        "Not much: I can answer short questions about countries, words and simple sums, and I often get them wrong.",
    ),
    ("How are you?", "I am well, thank you. How can I help?"),
    ("Are you a person?", "No, I am a small language model."),
)
THANKS = (
    ("Thank you!", "You are welcome!"),
    ("Thanks", "My pleasure."),
    ("That is all for today.", "Goodbye, and have a nice day!"),
    ("Great, thanks.", "You are welcome. Is there anything else?"),
)
OPPOSITES = (
    "hot cold",
    "big small",
    "fast slow",
    "light dark",
    "old new",
    "happy sad",
    "open closed",
    "early late",
    "high low",
    "hard soft",
    "full empty",
    "near far",
    "rich poor",
    "strong weak",
    "thick thin",
    "wet dry",
    "young old",
    "loud quiet",
    "wide narrow",
    "clean dirty",
    "deep shallow",
    "first last",
    "sweet bitter",
    "true false",
    "up down",
    "left right",
    "north south",
    "east west",
    "day night",
    "summer winter",
)
DAYS = (
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
)
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
WORDS = (
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
)
THINGS = (
    "apples",
    "pears",
    "books",
    "stones",
    "coins",
    "letters",
    "ships",
    "horses",
    "chairs",
    "cups",
    "roses",
    "candles",
    "keys",
    "maps",
    "bells",
)
TABLES = (
    "books",
    "authors",
    "cities",
    "orders",
    "customers",
    "songs",
    "planets",
    "files",
    "users",
    "letters",
)
COLUMNS = (
    "name",
    "price",
    "year",
    "size",
    "title",
    "city",
    "country",
    "weight",
    "colour",
    "score",
)

Fact = tuple[str, str]


def _get(facts: Mapping[str, Any], *path: str) -> str | None:
    node: Any = facts
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    text = node.get("text") if isinstance(node, Mapping) else None
    if not text or text in ("none", "NA") or len(text) > 260:
        return None
    return re.sub(r"\s*\+\+\s*", "; ", text).strip().rstrip(".")


def _country(rng: random.Random, name: str, facts: Mapping[str, Any]) -> Fact | None:
    kind = rng.randrange(11)
    background = (facts.get("Introduction", {}).get("Background", {}) or {}).get("text")
    if kind == 0 and (capital := _get(facts, "Government", "Capital", "name")):
        asked = rng.choice((f"What is the capital of {name}?", f"Name the capital of {name}."))
        return asked, f"The capital of {name} is {capital}."
    if kind == 1 and (place := _get(facts, "Geography", "Location")):
        return rng.choice((f"Where is {name}?", f"Where is {name} located?")), f"{name} is located in {place}."
    if kind == 2 and (tongues := _get(facts, "People and Society", "Languages")):
        return f"Which languages are spoken in {name}?", f"Languages of {name}: {tongues}."
    if kind == 3 and (people := _get(facts, "People and Society", "Population")):
        return f"How many people live in {name}?", f"{name} has a population of {people}."
    if kind == 4 and (area := _get(facts, "Geography", "Area", "total")):
        return f"How large is {name}?", f"{name} has a total area of {area}."
    if kind == 5 and (climate := _get(facts, "Geography", "Climate")):
        return f"What is the climate of {name} like?", f"The climate of {name} is {climate}."
    if kind == 6 and (border := _get(facts, "Geography", "Land boundaries", "border countries")):
        return f"Which countries border {name}?", f"{name} borders {re.sub(r' [0-9][0-9,.]* km', '', border)}."
    if kind == 7 and (terrain := _get(facts, "Geography", "Terrain")):
        return f"Describe the terrain of {name}.", f"The terrain of {name}: {terrain}."
    if kind == 8 and (top := _get(facts, "Geography", "Elevation extremes", "highest point")):
        return f"What is the highest point of {name}?", f"The highest point of {name} is {top}."
    if kind == 9 and (goods := _get(facts, "Geography", "Natural resources")):
        return f"What natural resources does {name} have?", f"{name} has {goods}."
    if background:
        return f"Tell me about {name}.", " ".join(re.split(r"(?<=[.]) ", background)[:2])
    return None


def _sum(rng: random.Random) -> Fact:
    a, b = rng.randrange(1, 60), rng.randrange(1, 60)
    kind = rng.randrange(4)
    if kind == 0:
        return f"What is {a} + {b}?", f"{a} + {b} = {a + b}."
    if kind == 1:
        return f"What is {a + b} minus {b}?", f"{a + b} minus {b} is {a}."
    if kind == 2:
        x, y = rng.randrange(2, 13), rng.randrange(2, 13)
        return f"What is {x} times {y}?", f"{x} times {y} is {x * y}."
    x, y, thing = rng.randrange(1, 11), rng.randrange(1, 11), rng.choice(THINGS)
    return (
        f"I have {WORDS[x]} {thing} and find {WORDS[y]} more. How many {thing} do I have?",
        f"You have {WORDS[x + y]} {thing}.",
    )


def _puzzle(rng: random.Random) -> Fact:
    kind = rng.randrange(8)
    if kind == 0:
        pair = rng.choice(OPPOSITES).split()
        pair = pair if rng.random() < 0.5 else pair[::-1]
        return f"What is the opposite of {pair[0]}?", f"The opposite of {pair[0]} is {pair[1]}."
    if kind == 1:
        n = rng.randrange(7)
        return f"Which day comes after {DAYS[n]}?", f"{DAYS[(n + 1) % 7]} comes after {DAYS[n]}."
    if kind == 2:
        n = rng.randrange(12)
        return f"Which month comes before {MONTHS[n]}?", f"{MONTHS[n - 1]} comes before {MONTHS[n]}."
    if kind == 3:
        numbers = rng.sample(range(1, 100), 5)
        return f"Sort these numbers: {', '.join(map(str, numbers))}.", ", ".join(map(str, sorted(numbers)))
    if kind == 4:
        items = rng.sample(THINGS, 4)
        return f"Put these words in alphabetical order: {', '.join(items)}.", ", ".join(sorted(items))
    if kind == 5:
        start = rng.randrange(1, 50)
        return f"Count from {start} to {start + 7}.", ", ".join(map(str, range(start, start + 8)))
    if kind == 6:
        word = rng.choice(THINGS)
        return f'Write "{word}" in capital letters.', word.upper()
    items = rng.sample(THINGS, 3)
    return f"Make a list of {items[0]}, {items[1]} and {items[2]}.", "\n".join(f"- {item}" for item in items)


def _code(rng: random.Random) -> Fact:
    table, (a, b), n = rng.choice(TABLES), rng.sample(COLUMNS, 2), rng.randrange(1, 100)
    kind = rng.randrange(6)
    if kind == 0:
        return f"Write SQL that counts the rows of {table}.", f"SELECT count(*) FROM {table};"
    if kind == 1:
        return f"Write SQL for the {a} of all {table} ordered by {b}.", f"SELECT {a} FROM {table} ORDER BY {b};"
    if kind == 2:
        return f"Write SQL for {table} with {a} above {n}.", f"SELECT * FROM {table} WHERE {a} > {n};"
    if kind == 3:
        columns = f"    {a} TEXT,\n    {b} INTEGER\n"
        return f"Create a table {table} with {a} and {b}.", f"CREATE TABLE {table} (\n{columns});"
    if kind == 4:
        return f"Write a Python function that adds {n} to {a}.", f"def add({a}):\n    return {a} + {n}"
    return f"Write a Python loop that prints each of the {table}.", f"for item in {table}:\n    print(item)"


def _first(text: str, most: int = 300) -> str | None:
    body = text.split("\n\n", 1)[-1].split("\n\n")[0]
    body = re.sub(r"^(?:\[[^]]*\] |1\. )+", "", body)
    sentence = re.split(r"(?<=[.!?]) (?=[A-Z])", body)[0]
    return sentence if 20 < len(sentence) < most else None


def conversations(
    countries: Mapping[str, Mapping[str, Any]],
    jargon: Mapping[str, str],
    bierce: Mapping[str, str],
    count: int,
    seed: int,
) -> list[Talk]:
    """count conversations of one to three questions, from these facts alone; the same arguments give the same list."""
    rng = random.Random(seed)
    names, words, devil, talks = sorted(countries), sorted(jargon), sorted(bierce), []
    while len(talks) < count:
        talk: Talk = [{"role": "system", "content": rng.choice(SYSTEMS)}] if rng.random() < 0.4 else []
        turns: list[Fact | None] = [rng.choice(GREETINGS)] if rng.random() < 0.15 else []
        country = rng.choice(names)
        for _ in range(rng.choice((1, 1, 2, 3))):
            kind = rng.random()
            if kind < 0.45:
                turns.append(_country(rng, country, countries[country]))
            elif kind < 0.60:
                word = rng.choice(words)
                meaning = _first(jargon[word])
                turns.append((f'What do hackers mean by "{word}"?', meaning) if meaning else None)
            elif kind < 0.66:
                word = rng.choice(devil)
                meaning = _first("\n\n" + bierce[word].split(".  ", 1)[-1].split(". ", 1)[-1])
                turns.append((f"How does The Devil's Dictionary define {word.lower()}?", meaning) if meaning else None)
            else:
                turns.append(_sum(rng) if kind < 0.78 else _puzzle(rng) if kind < 0.91 else _code(rng))
        if rng.random() < 0.1:
            turns.append(rng.choice(THANKS))
        for question, answer in filter(None, turns):
            talk += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if len(talk) > 1:
            talks.append(talk)
    return talks


def plain(talk: Talk) -> str:
    """The conversation as ordinary text: no special token, for texts that are tokenized without them."""
    label = {"user": "Question", "assistant": "Answer"}
    return "\n".join(f"{label[m['role']]}: {m['content']}" for m in talk if m["role"] in label)
