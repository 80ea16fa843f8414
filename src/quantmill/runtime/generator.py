"""Text from a model, token by token."""

from collections.abc import Iterator, Sequence

import numpy as np

from quantmill.errors import UsageError
from quantmill.gguf.token_facts import ENDS
from quantmill.runtime.detokenizer import Detokenizer
from quantmill.runtime.loader import LoadedModel
from quantmill.runtime.sampler import Sampler, Sampling


def ends(model: LoadedModel) -> frozenset[int]:
    """The tokens that end a text: those the metadata names, and those whose texts llama.cpp knows to."""
    named = (f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom"))
    stated = (model.metadata[key].value for key in named if key in model.metadata)
    found = {id_ for id_ in stated if isinstance(id_, int)}
    texts: list[str] = model.metadata["tokenizer.ggml.tokens"].value
    return frozenset(found | {id_ for id_, text in enumerate(texts) if text in ENDS})


def generate(model: LoadedModel, prompt: Sequence[int], count: int, sampling: Sampling) -> Iterator[str]:
    """Up to `count` tokens' text after the prompt, in pieces; ends with a token that ends a text, or the context.

    UsageError when the prompt is empty or does not fit.
    """
    if not prompt:
        raise UsageError("the prompt has no tokens; give some text")
    if len(prompt) >= model.context:
        raise UsageError(
            f"the prompt has {len(prompt)} tokens, the context room for {model.context}; shorten it or raise --context"
        )
    sampler, over, decoder = Sampler(sampling), ends(model), Detokenizer(model.metadata)
    logits = model.evaluate(np.array(prompt, np.int32), 0)
    position = len(prompt)
    for left in range(count, 0, -1):
        token = sampler.next(logits[0])
        if token in over:
            return
        done = left == 1 or position == model.context
        if piece := decoder.text(token, last=done):
            yield piece
        if done:
            return
        logits = model.evaluate(np.array([token], np.int32), position)
        position += 1
