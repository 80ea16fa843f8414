"""The chat template of a folder's files: where it is looked for, and whether llama.cpp can read it."""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from string import ascii_letters, digits
from typing import Any

from quantmill.architectures.errors import TokenizerError
from quantmill.architectures.json_file import TEMPLATES, load_json, read_file
from quantmill.gguf import KV, kv

KEY = "tokenizer.chat_template"
_CONFIG, _JSON, _JINJA = "tokenizer_config.json", "chat_template.json", "chat_template.jinja"
_LENGTH = 200_000  # characters of a template that is looked at: the longest known have some 20,000
# Statements of Jinja that llama.cpp's own reader of it (late 2026) does not know, by jinja2's names for them.
_UNKNOWN = {
    "Include": "include",
    "Import": "import",
    "FromImport": "from",
    "Extends": "extends",
    "Block": "block",
    "With": "with",
    "ScopedEvalContextModifier": "autoescape",
}


def templates(
    files: Mapping[str, Path], settings: Mapping[str, Any], jinja_first: bool = True
) -> dict[str, tuple[str, str]]:
    """Each template's text and the file that it is of, by name, without empty ones; `default` is the one that is used
    where nothing else is asked for. `settings` is tokenizer_config.json.

    As transformers reads them, chat_template.jinja wins over tokenizer_config.json, and that over the older
    chat_template.json; the folder additional_chat_templates adds to any. The converter at b5490 knows no file of Jinja.
    Without `jinja_first`, as later converters do, tokenizer_config.json wins over all others, and the folder adds to
    chat_template.jinja alone.
    """
    found = _of_json(settings.get("chat_template"), _CONFIG)
    if found and not jinja_first:
        return found
    if not found and (jinja_first or _JINJA not in files):
        found = _of_json((load_json(files, _JSON, TokenizerError) or {}).get("chat_template"), _JSON)
    if not jinja_first and _JINJA not in files:
        return found
    folder = sorted(name for name in files if name.startswith(f"{TEMPLATES}/") and name.endswith(".jinja"))
    for file in (*folder, *([_JINJA] if _JINJA in files else [])):
        name = "default" if file == _JINJA else _plain(Path(file).stem)
        if text := _jinja(files[file], file):
            found[name] = text, file
    return found


def stated(files: Mapping[str, Path], settings: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """File, name and text of each template that a file has, whichever of them is used."""
    tables = {_CONFIG: settings.get("chat_template")}
    with suppress(TokenizerError):  # of a file that may not be read at all
        tables[_JSON] = (load_json(files, _JSON, TokenizerError) or {}).get("chat_template")
    for file, table in tables.items():
        yield from ((file, name, text) for name, (text, _) in _of_json(table, file).items())
    for file in sorted(name for name in files if name.endswith(".jinja")):
        name = "default" if file == _JINJA else _plain(Path(file).stem)
        with suppress(TokenizerError):
            if (file == _JINJA or file.startswith(f"{TEMPLATES}/")) and (text := _jinja(files[file], file)):
                yield file, name, text


def template_entries(files: Mapping[str, Path], settings: Mapping[str, Any], jinja_first: bool = True) -> Iterator[KV]:
    """The entries in the converter's order: the named ones, their names, the default."""
    found = {name: text for name, (text, _) in templates(files, settings, jinja_first).items()}
    default = found.pop("default", None)
    yield from (kv(f"{KEY}.{name}", text) for name, text in found.items())
    if found:
        yield kv("tokenizer.chat_templates", list(found))
    if default:
        yield kv(KEY, default)


def check(files: Mapping[str, Path], settings: Mapping[str, Any], jinja_first: bool = True) -> None:
    """Raises TokenizerError for a default template that llama.cpp cannot read: its server ends by one."""
    text, file = templates(files, settings, jinja_first).get("default", ("", ""))
    if text and len(text) <= _LENGTH and (problem := _problem(text)) is not None:
        raise TokenizerError(
            f"{file}: the chat template {problem}, by which llama.cpp's server ends; correct it in the model's folder"
        )


def _problem(text: str) -> str | None:
    jinja2: Any = importlib.import_module("jinja2")  # late: only a conversion needs it
    importlib.import_module("jinja2.ext")

    class _Generation(jinja2.ext.Extension):  # type: ignore[misc]  # transformers' own statement
        tags = {"generation"}  # noqa: RUF012 -- jinja2's own name and kind

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    environment = jinja2.Environment(
        extensions=[jinja2.ext.LoopControlExtension, _Generation]
    )  # parses only; nothing is run
    try:
        if line := next((line for line, kind, _ in environment.lex(text) if kind == "raw_begin"), None):
            return f"has the statement `raw` in line {line}"
        tree = environment.parse(text)
    except jinja2.TemplateSyntaxError as error:
        return f"is no Jinja in line {error.lineno} ({error.message})"
    except (
        Exception
    ) as error:  # whatever Python's own types say of a stranger's number, or of a hundred thousand brackets
        return f"is no Jinja ({type(error).__name__})"
    for name, statement in _UNKNOWN.items():
        if node := next(tree.find_all(getattr(jinja2.nodes, name)), None):
            return f"has the statement `{statement}` in line {node.lineno}"
    for kind, known in (("Filter", environment.filters), ("Test", environment.tests)):
        if node := next((node for node in tree.find_all(getattr(jinja2.nodes, kind)) if node.name not in known), None):
            return f"has the {kind.lower()} {node.name!r} in line {node.lineno}, which Jinja has not"
    return None


def _jinja(path: Path, file: str) -> str:
    """Python's universal line ends, as the converter reads; an editor's mark at the beginning is no part of it."""
    try:
        return read_file(path, file, TokenizerError).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise TokenizerError(f"{file} is not UTF-8 text; fetch it again") from None


def _of_json(stated: Any, file: str) -> dict[str, tuple[str, str]]:
    """Of a text, or of a list of tables with `name` and `template`; anything else holds none, as there."""
    if isinstance(stated, str):
        return {"default": (stated, file)} if stated else {}
    found = {}
    for choice in stated if isinstance(stated, list) else []:
        name, text = (choice.get("name"), choice.get("template")) if isinstance(choice, Mapping) else (None, None)
        if isinstance(name, str) and name and isinstance(text, str) and text:
            found[_plain(name)] = text, file
    return found


def _plain(name: str) -> str:
    return "".join(letter if letter in ascii_letters + digits else "_" for letter in name)
