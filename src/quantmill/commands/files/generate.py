"""`quantmill generate`: let a GGUF file write text."""

import argparse
import re
from typing import TYPE_CHECKING

from quantmill.commands.common import activation_bits, existing, file_path, parallel, positive, threads
from quantmill.errors import UsageError, printable

if TYPE_CHECKING:
    from quantmill.runtime.loader import LoadedModel
    from quantmill.vocabulary.tokenizer import Tokenizer

_LONGEST = 1_000_000  # characters of a rendered conversation
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # what a terminal acts on; of a text, \t, \n and \r


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", type=file_path, metavar="FILE.gguf", help="a model, or the first of its shards")
    parser.add_argument("-p", "--prompt", required=True, metavar="TEXT")
    parser.add_argument(
        "-n", dest="count", type=positive, default=256, metavar="N", help="at most so many tokens (256)"
    )
    parser.add_argument("--raw", action="store_true", help="go on with the text itself, without the chat template")
    parser.add_argument("--system", metavar="TEXT", help="a system message before the prompt")
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0, the default, is greedy")
    parser.add_argument("--top-k", type=int, default=40, metavar="K", help="of the K likeliest tokens (40; 0: all)")
    parser.add_argument("--top-p", type=float, default=0.95, metavar="P", help="of those that reach P together (0.95)")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--context", type=positive, default=4096, metavar="N", help="tokens to have room for (4096)")
    parser.add_argument("--threads", type=parallel, metavar="N", help="threads (all cores)")
    parser.add_argument("--no-repack", action="store_true", help="use the file's blocks as they lie")
    activation_bits(parser)


def run(options: argparse.Namespace) -> int:
    """Exit code 0, or an error."""
    from quantmill.runtime.generator import generate
    from quantmill.runtime.loader import load
    from quantmill.runtime.sampler import Sampling
    from quantmill.vocabulary.tokenizer import load as tokenizer_of

    if options.raw and options.system is not None:
        raise UsageError("--system is a message of a conversation, which --raw leaves out; leave out one of the two")
    sampling = Sampling(options.temperature, options.top_k, options.top_p, options.seed)
    tokenizer = tokenizer_of(existing(options.model))
    model = load(
        options.model,
        context=options.context,
        threads=threads(options),
        repack=not options.no_repack,
        activation_bits=options.activation_bits,
    )
    text = options.prompt if options.raw else _conversation(options, model, tokenizer)
    prompt = tokens_of(tokenizer, text, options.raw)
    for piece in generate(model, prompt, options.count, sampling):
        print(_CONTROL.sub(lambda match: printable(match[0]), piece), end="", flush=True)
    print()
    return 0


def tokens_of(tokenizer: "Tokenizer", text: str, raw: bool) -> list[int]:
    """The prompt's tokens. A conversation begins with one BOS where the model adds it, whether or not its template
    writes it too, as in llama.cpp."""
    if raw:
        return tokenizer.encode(text)
    found = tokenizer.encode(text, add_special=False, parse_special=True)
    begins = tokenizer.add_bos and tokenizer.bos is not None and found[:1] != [tokenizer.bos]
    return [*([tokenizer.bos] if begins and tokenizer.bos is not None else []), *found]


def _conversation(options: argparse.Namespace, model: "LoadedModel", tokenizer: "Tokenizer") -> str:
    """The prompt in the model's own chat template."""
    from quantmill.card.prompt import chat

    entry = model.metadata.get("tokenizer.chat_template")
    if entry is None or not isinstance(entry.value, str):
        raise UsageError(f"{options.model}: has no chat template; give --raw to go on with the text itself")

    texts = model.metadata["tokenizer.ggml.tokens"].value
    bos, eos = ("" if id_ is None else texts[id_] for id_ in (tokenizer.bos, tokenizer.eos))

    messages = [{"role": "user", "content": options.prompt}]
    if options.system is not None:
        messages.insert(0, {"role": "system", "content": options.system})
    rendered = chat(entry.value, messages, bos, eos, _LONGEST)
    if rendered.refused:
        raise UsageError(
            f"{options.model}: its chat template cannot be rendered ({rendered.refused}); give --raw to go without it"
        )
    return rendered.text
