"""What scripts that make small checkpoints begin with; they are run by a Python that has torch and transformers."""

# The vocabulary of GPT-2, whose name llama.cpp's converter knows, in the folder of a model.
VOCABULARY = """
import json, sys
from pathlib import Path

sources, folder = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(sources / "gguf-py"))
import gguf, torch, transformers

fields = gguf.GGUFReader(sources / "models" / "ggml-vocab-gpt-2.gguf").fields
tokens = fields["tokenizer.ggml.tokens"].contents()
bytelevel = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True, "type": "ByteLevel"}
model = {"type": "BPE", "vocab": {token: at for at, token in enumerate(tokens)}, "ignore_merges": False}
model["merges"] = fields["tokenizer.ggml.merges"].contents()
end = {"id": len(tokens) - 1, "content": tokens[-1], "special": True, "single_word": False, "lstrip": False}
tokenizer = {"version": "1.0", "added_tokens": [end | {"rstrip": False, "normalized": True}], "model": model}
tokenizer |= {"pre_tokenizer": bytelevel, "decoder": bytelevel}
(folder / "tokenizer.json").write_text(json.dumps(tokenizer))
config = {"tokenizer_class": "GPT2TokenizerFast", **dict.fromkeys(("bos_token", "eos_token", "unk_token"), tokens[-1])}
(folder / "tokenizer_config.json").write_text(json.dumps(config))
"""
