"""Special tokens in a text: found before anything else, the longest first, as llama.cpp does it (b5490)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from quantmill.gguf.token_facts import ENDS
from quantmill.vocabulary.sentencepiece import CONTROL, UNKNOWN, USER_DEFINED

_SPACES = " \t\n\v\f\r"

# Texts of which the first in the vocabulary gets a role, and control with it, when no key gives the role to a token.
ROLES: Mapping[str, tuple[str, ...]] = {
    "eot": ("<\uff5cend▁of▁sentence\uff5c>",),
    "fim_pre": ("<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<\uff5cfim▁begin\uff5c>", "<PRE>"),
    "fim_suf": ("<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<\uff5cfim▁hole\uff5c>", "<SUF>"),
    "fim_mid": ("<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<\uff5cfim▁end\uff5c>", "<MID>"),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}
_OLD_KEYS = {"fim_pre": "prefix", "fim_suf": "suffix", "fim_mid": "middle"}


@dataclass(frozen=True)
class Special:
    """`hidden`: found only when special tokens are to be parsed. The flags: whether white space beside it goes."""

    text: str
    id: int
    hidden: bool
    strip_left: bool = False
    strip_right: bool = False


def control_by_text(ids: Mapping[str, int], given: Iterable[str]) -> Iterator[int]:
    """The tokens that are control tokens for their text. `given` are the names of the file's `…_token_id` keys.

    Of several texts for one role llama.cpp takes the one that its hash table meets first; here, the lowest id.
    """
    yield from (ids[text] for text in ENDS if text in ids)
    given = set(given)
    for role, texts in ROLES.items():
        if not {role, _OLD_KEYS.get(role, role)} & given and (known := [ids[text] for text in texts if text in ids]):
            yield min(known)


def specials(texts: Sequence[str], types: Sequence[int], pre: str, model_name: str) -> list[Special]:
    """The special tokens in the order in which they are looked for; of equal length, by id.

    What strips white space is known by names: `pre` is the pre-tokenizer's, `model_name` the model's.
    """
    wanted = [id_ for id_, type_ in enumerate(types) if type_ in (CONTROL, USER_DEFINED, UNKNOWN)]
    phi3 = any(part in model_name.lower() for part in ("phi-3", "phi3"))
    jina = any(part in pre for part in ("jina-v2-de", "jina-v2-es", "jina-v2-code"))
    found = [
        Special(
            texts[id_],
            id_,
            hidden=types[id_] != USER_DEFINED,
            strip_left=jina and texts[id_] == "<mask>",
            strip_right=phi3 and not jina and texts[id_] not in ("<unk>", "<s>", "<|endoftext|>"),
        )
        for id_ in wanted
    ]
    return sorted(found, key=lambda special: -len(special.text.encode()))


def partition(text: str, specials: Iterable[Special], parse: bool) -> list[str | int]:
    """The text in order as pieces of text and, between them, special tokens' ids; hidden ones only when `parse`."""
    pieces: list[str | int] = [text] if text else []
    for special in specials:
        if special.text in text and (parse or not special.hidden):
            pieces = [part for piece in pieces for part in _parts(piece, special)]
    return pieces


def _parts(piece: str | int, special: Special) -> Iterator[str | int]:
    if isinstance(piece, int):
        yield piece
        return
    begin = 0
    while (at := piece.find(special.text, begin)) >= 0:
        end = at
        while special.strip_left and end > begin and piece[end - 1] in _SPACES:
            end -= 1
        if end > begin:
            yield piece[begin:end]
        yield special.id
        begin = at + len(special.text)
        while special.strip_right and begin < len(piece) and piece[begin] in _SPACES:
            begin += 1
    if begin < len(piece):
        yield piece[begin:]
