"""SentencePiece vocabularies (`tokenizer.ggml.model` llama), from tokenizer.model or a tokenizer.json of its kind."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quantmill.architectures.configuration import MAX_VOCABULARY
from quantmill.architectures.errors import TokenizerError
from quantmill.architectures.json_file import load_json, read_file
from quantmill.gguf.errors import shown
from quantmill.vocabulary.byte_level import check_ids, looks_special
from quantmill.vocabulary.hf_tokenizer import HFTokenizer, content
from quantmill.vocabulary.sentencepiece import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED, Piece, pieces

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_ADDED_SCORE, _PAD_SCORE = -1000.0, -10000.0


def from_model(
    files: Mapping[str, Path],
    config: Mapping[str, Any],
    vocab_size: int,
    notes: list[str],
    takes_surplus: bool = False,
    beside: Mapping[str, Any] | None = None,
) -> list[Piece]:
    """tokenizer.model's pieces, then added_tokens.json's, then those of tokenizer_config.json; `[PAD…]` for the rest.

    User-defined pieces of tokenizer.model itself are written as normal ones, as the converter does. `config` is
    tokenizer_config.json; `notes` is told of tokens beyond `vocab_size`, which are left out, and of pieces that others
    replace. `beside` is a Phi 3's tokenizer.json, whose added tokens come last; a token is special there if it says so,
    and no text changes. Raises TokenizerError when there are more pieces than `vocab_size`, unless it `takes_surplus`.
    """
    lost: dict[int, str] = {}
    data = read_file(files["tokenizer.model"], "tokenizer.model", TokenizerError)
    own = pieces(data, MAX_VOCABULARY if takes_surplus else vocab_size)
    if len(own) > vocab_size:
        beyond = f"those beyond config.json's `vocab_size` of {vocab_size} are left out"
        notes.append(f"tokenizer.model has {len(own)} tokens; {beyond}")
        own = own[:vocab_size]
    found = [Piece(piece.text, piece.score, NORMAL if piece.type == USER_DEFINED else piece.type) for piece in own]
    found += [Piece(f"[PAD{id_}]".encode(), _PAD_SCORE, UNUSED) for id_ in range(len(own), vocab_size)]
    for added, id_ in (load_json(files, "added_tokens.json", TokenizerError) or {}).items():
        if not isinstance(id_, int) or id_ < 0:
            raise TokenizerError(f"added_tokens.json has {id_!r} where the id of {added!r} belongs")
        if id_ < vocab_size:
            _told(notes, id_, found[id_], added)
            found[id_] = Piece(added.encode(), _ADDED_SCORE, USER_DEFINED)
        else:
            lost[id_] = added
    for key, entry in _added(config, beside):
        text = content(entry) if isinstance(entry, Mapping) else None
        if not (key.isdecimal() and len(key) <= 10) or text is None:
            raise TokenizerError(f"tokenizer_config.json's `added_tokens_decoder` has a bad entry {key!r}")
        if int(key) >= vocab_size:
            lost[int(key)] = text
        else:
            _told(notes, int(key), found[int(key)], text)
            special = entry.get("special") or (beside is None and looks_special(text))
            text = text if special or beside is not None else text.replace("▁", " ")
            found[int(key)] = Piece(text.encode(), _ADDED_SCORE, CONTROL if special else USER_DEFINED)
    if lost:
        first = min(lost)
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        notes.append(
            f"the added token {shown(lost[first])} has the id {first}{more}, beyond config.json's `vocab_size` of "
            f"{vocab_size}: left out"
        )
    return found


def _added(config: Mapping[str, Any], beside: Mapping[str, Any] | None) -> Iterator[tuple[str, Any]]:
    """(id, entry) of the tokens that tokenizer_config.json adds, then of those that tokenizer.json does."""
    decoder = config.get("added_tokens_decoder")
    yield from decoder.items() if isinstance(decoder, Mapping) else ()
    more = beside.get("added_tokens") if beside is not None else None
    for entry in more if isinstance(more, list) else ():
        yield str(entry.get("id") if isinstance(entry, Mapping) else None), entry


def _told(notes: list[str], id_: int, before: Piece, text: str) -> None:
    if before.type != UNUSED and before.text != text.encode():
        notes.append(f"the token {id_} is {shown(before.text.decode())} in tokenizer.model and {shown(text)} beside it")


def is_spm_json(data: Mapping[str, Any]) -> bool:
    """Whether tokenizer.json is SentencePiece's BPE: unknown characters fall back to bytes."""
    model, decoder = data.get("model"), data.get("decoder")
    return (
        isinstance(model, Mapping)
        and model.get("type") == "BPE"
        and bool(model.get("byte_fallback", False))
        and isinstance(decoder, Mapping)
        and decoder.get("type") == "Sequence"
    )


def from_json(tokenizer: HFTokenizer, vocab_size: int) -> list[Piece]:
    """The vocabulary of such a tokenizer.json, which has no scores, then the tokens added beyond it; `[PAD…]` for the
    rest, without which llama.cpp would not load the file: the converter at b5490 forgets them.

    Raises TokenizerError when a token's id is not below `vocab_size`.
    """
    size = len(tokenizer.vocab)
    special = set(tokenizer.specials.values())
    by_id = {id_: text for text, id_ in tokenizer.vocab.items()}
    by_id |= {id_: token.content for id_, token in tokenizer.added.items()}
    check_ids(by_id, vocab_size)
    if (lost := next((id_ for id_ in range(size) if id_ not in by_id), None)) is not None:
        raise TokenizerError(f"tokenizer.json has {size} tokens but none with id {lost}")
    found = [_piece(by_id[id_], special, NORMAL) for id_ in range(size)]
    for id_ in range(size, vocab_size):
        if id_ not in by_id:
            found.append(Piece(f"[PAD{id_}]".encode(), _PAD_SCORE, UNUSED))
            continue
        text = by_id[id_]
        # The converter forgets what an added special token looks like: `<0x..>` among them is no byte.
        found.append(Piece(text.encode(), _ADDED_SCORE, CONTROL if text in special else USER_DEFINED))
    return found


def _piece(text: str, special: set[str], otherwise: int) -> Piece:
    type_ = BYTE if _BYTE_TOKEN.fullmatch(text) else CONTROL if text in special else otherwise
    return Piece(text.encode(), _ADDED_SCORE, type_)
