"""A name that would be obeyed, and what a page holds that a browser would obey."""

from html.parser import HTMLParser

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>\x1b[2J\u202e{{ 7 * 7 }}"


class Page(HTMLParser):
    """The elements of a page by name with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def check(self) -> None:
        """Nothing in it runs or is fetched."""
        assert not {"script", "img", "iframe", "object", "form"} & {tag for tag, _ in self.found}
        for tag, attributes in self.found:
            assert not [name for name in attributes if name.startswith("on")]
            for name in ("href", "src", "xlink:href"):
                assert (attributes.get(name) or "#").startswith(("#", "data:,")), (tag, attributes)
