"""The forward pass and the quantized kernels beside a current llama.cpp: probabilities of all tokens after a prompt.

The token that it then chooses is forced to be a letter, since it tells no probabilities beside half a character; those
that it tells are as they were without the force.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from forward_models import MODELS, chunks, write
from quantmill.engine.evaluation import Run, evaluate, open_model
from quantmill.runtime.loader import load

ASK = """
import json, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.n_ctx, params.n_gpu_layers, params.warmup, params.cpuparams.n_threads = 256, 0, False, 1
ask = {"prompt": json.loads(sys.argv[2]), "n_predict": 1, "n_probs": 258, "logit_bias": [[65, 100]]}
(choice,) = xllamacpp.Server(params).handle_completions(ask)["choices"]
(position,) = choice["logprobs"]["content"]
print(json.dumps({token["id"]: token["logprob"] for token in position["top_logprobs"]}))
"""


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_those_of_llama_cpp(name: str, tmp_path: Path) -> None:
    path = write(MODELS[name], tmp_path / "model.gguf")
    prompt = chunks(MODELS[name], length=70, count=1)
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(path), json.dumps(prompt[0, :-1].tolist())],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = {int(token): logprob for token, logprob in json.loads(done.stdout.splitlines()[-1]).items()}
    assert len(theirs) > 250
    with open_model(path) as model, evaluate(model, prompt, Run()) as hidden:
        logits = hidden.logits(0, 1)[-1].astype(np.float64)  # after all of the prompt but its last token
    found = [logits]
    if name != "llama-bias":  # whose biases the quantized kernels do not add
        found.append(load(path).evaluate(prompt[0, :-1], 0)[0].astype(np.float64))
    tokens = np.array(list(theirs))
    for logits in found:
        ours = logits - np.log(np.exp(logits).sum())
        errors = np.abs(ours[tokens] - np.array(list(theirs.values())))
        assert errors.max() < 0.05  # its keys and values of attention are float16
        assert np.median(errors) < 0.01
