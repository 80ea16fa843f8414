"""What every part of a page is written with: the facts, one language's words, the addresses of the release's files."""

from collections.abc import Sequence

from quantmill.card.card_facts import CardFacts
from quantmill.card.catalogue import words

HUB = "https://huggingface.co"


class Voice:
    """`say(key, **values)` is the catalogue's text, filled."""

    def __init__(self, facts: CardFacts, language: str) -> None:
        self.facts, self.language, self.words = facts, language, words(language)

    def say(self, key: str, **values: object) -> str:
        return self.words[key].format(**values)

    def joined(self, sentences: Sequence[str]) -> str:
        """Sentences one after the other."""
        return (" " if self.language == "en" else "").join(sentences)

    def where(self, name: str) -> str:
        """The address of a file or folder of the release; on the release's own page, where it has one."""
        if self.facts.repo is None:
            return name
        return f"{HUB}/{self.facts.repo}/{'tree' if name.endswith('/') else 'blob'}/main/{name.rstrip('/')}"
