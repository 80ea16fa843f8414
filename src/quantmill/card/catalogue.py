"""The page's words: one catalogue (a TOML file beside this one) for each language, with the same keys in all."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import tomli

LANGUAGES = ("en", "zh-CN", "zh-TW", "ja")  # in the order of the links between the pages


@cache
def words(language: str) -> Mapping[str, str]:
    """The texts of a language by `section.key`; their {fields} are filled with str.format."""
    data = tomli.loads((files("quantmill.card") / f"{language}.toml").read_text(encoding="utf-8"))
    found = {"name": data.pop("name")}
    return found | {f"{section}.{key}": text for section, table in data.items() for key, text in table.items()}


def page_name(language: str) -> str:
    """The page's file name: README.md in English, README.<language>.md otherwise."""
    return "README.md" if language == "en" else f"README.{language}.md"
