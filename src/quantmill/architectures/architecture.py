"""What an architecture is, as one record: its classes, tensors, metadata keys and hyperparameters."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from quantmill.architectures.conditions import Sizes, Where, always
from quantmill.architectures.operations import Operation, Scoring
from quantmill.gguf import ValueType

# config.json's facts, as configuration.hparams gives them.
Facts = Mapping[str, Any]

# Metadata keys that llama.cpp refuses nearly any file without, after the architecture's name.
NEEDED = (
    *("context_length", "embedding_length", "block_count", "feed_forward_length"),
    *("attention.head_count", "attention.layer_norm_rms_epsilon"),
)


@dataclass(frozen=True)
class TensorLine:
    """A line of an architecture's table of tensors.

    `name`: in a GGUF file; a layer's without its `blk.N.`
    `dims`: names of sizes, in ggml's order (a row's length first)
    `source`: in a checkpoint, a layer's without its `model.layers.N.`; `*` is each expert; empty: computed or not
    there; with `/` before it, the whole name
    `asked`: whether a checkpoint has it: a key of config.json that must be true, or a function of its facts and of the
    `layer` beside them
    `where`: the layers that have it
    `optional`: a GGUF file may be without it
    `spared`: llama.cpp loads a file without it, with which nothing is computed here
    `placed`: False where checkpoints ask for it and llama.cpp has no place for it
    `cut`: the sizes whose rows of the source are before it, and those that all of the source's rows are
    `heads`: the size that counts the heads whose rows leave Hugging Face's rotary layout
    `added`: what is added to every value
    `change`: what else is done to the values, a name of checkpoint/changes.py
    `f32`: stays F32, although it is a matrix of another name than those that do
    `type`: the type that it has in every file, whatever the file's; empty for the file's
    """

    name: str
    dims: str
    source: str = ""
    asked: str | Callable[[Facts], bool] | None = None
    where: Where = always
    optional: bool = False
    spared: bool = False
    placed: bool = True
    cut: tuple[str, str] = ("", "")
    heads: str = ""
    added: int = 0
    change: str = ""
    f32: bool = False
    type: str = ""


@dataclass(frozen=True)
class MetadataKey:
    """A metadata key, after the architecture's name.

    `config`: config.json's keys of it, the first that is there; or a function of its facts, None for no key
    `size`: the name under which tensors and layers ask for the number; empty for none
    `absent`: that number, where a file does not say it
    `behind`: it comes behind the base class's keys, although it is one of them
    `first`: it comes behind general.architecture, before all others
    """

    key: str
    config: str | Callable[[Facts], Any]
    type: ValueType = ValueType.UINT32
    size: str = ""
    absent: int = 0
    behind: bool = False
    first: bool = False


@dataclass(frozen=True)
class ModelClass:
    """A class of transformers whose checkpoints are converted.

    `defaults`: what transformers assumes for keys that config.json leaves out
    `spellings`: other names of keys → ours
    `ignored`: keys of config.json that the class does not look at, where others of the architecture do
    `mixture`: its feed-forward part is a mixture
    `since`: as an architecture's, where older builds convert the others of its classes
    `packings`: the ways of quantizing of which its checkpoints are converted, as packing.py names them
    `scalings`: the kinds of rope scaling that llama.cpp computes for it
    `yarn`: what YaRN's table may hold beside what it may for all, by its keys; nothing for what `facts` looks at
    `only`: key of config.json → the values that a GGUF file can hold, beside that key's absence
    `absent`: key → what transformers takes where it is absent, of those that a GGUF file cannot hold
    `windows`: how a window of attention is told of, whose layers a GGUF file cannot name
    `when`: of a class that has several records, whether config.json's model is this one
    `reading`: what config.json says, in the keys that others say it by; raises ModelError
    `facts`: further facts, computed from those that there are, and `sizes`, of sources alone, by their names; raises
    ModelError for what cannot be converted
    `notes`: what a person should know of a model beside what its file says
    `vocabulary`: "llama", "phi3", "glm", "glm4" and "hunyuan" add the converter's rules for these; "sentencepiece" is
    tokenizer.model alone, and no space goes before a text; "ernie" is so too, with a space as it is stated; "gemma4" is
    tokenizer.json's BPE of characters; "kimi" may be tiktoken.model's ranks
    `part`: what the text model's tensors begin with, in a checkpoint that holds other models too
    `layers`: what a layer's tensors begin with, before its number
    `behind`: what those of the `nextn` last layers begin with, which are counted anew
    `others`: what tensors of other models begin with, which are left out
    `dropped`: a pattern of what else of a checkpoint's tensors is left out, from their names' beginning
    `is_cut`: layers beyond those that config.json counts are left out
    `is_tied_alone`: beside tied embeddings an output matrix is left out
    `stacks`: GGUF names of a layer's stacks of experts in the converter's order; by their sources' names without
    `tensors`: lines in the place of the architecture's, by their GGUF name
    `fused`: lines in the place of those whose sources a checkpoint lacks, by their GGUF name
    """

    name: str
    defaults: Mapping[str, Any]
    spellings: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    mixture: bool = False
    since: int = 0
    packings: tuple[str, ...] = ("fp8",)
    scalings: tuple[str, ...] = ("linear", "yarn")
    yarn: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    absent: Mapping[str, Any] = field(default_factory=dict)
    windows: Literal["", "asked", "always", "pattern"] = ""
    when: Callable[[Facts], bool] | None = None
    reading: Callable[[Facts], Mapping[str, Any]] | None = None
    facts: Callable[[Facts], Mapping[str, Any]] | None = None
    notes: Callable[[Facts], Iterable[str]] | None = None
    vocabulary: Literal["", "llama", "sentencepiece", "ernie", "phi3", "glm", "glm4", "hunyuan", "gemma4", "kimi"] = ""
    part: str = ""
    layers: str = "model.layers."
    behind: str = ""
    others: tuple[str, ...] = ()
    dropped: str = ""
    is_cut: bool = False
    is_tied_alone: bool = False
    stacks: tuple[str, ...] = ()
    tensors: tuple[TensorLine, ...] = ()
    fused: tuple[TensorLine, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """All that is known of one architecture.

    `name`: GGUF's general.architecture
    `top`, `layer`: its tensors, in the order of llama.cpp's graph: those outside the layers, and a layer's
    `classes`: the classes of transformers that become it
    `keys`: its own metadata keys, in the converter's order behind those of all; a plain name is one of KEYS, and one
    that the base class writes takes its place there
    `order`: all of its keys, where its class of the converter writes them without the base class
    `sizes`: further sizes, computed from those that there are
    `needed`: metadata keys that llama.cpp refuses a file without
    `since`: the first build whose converter is known to write it so; 0: any that is offered
    `operations`: what a layer computes; none: it is converted only
    `experts`: whether it is a mixture
    `scoring`: how they are scored where their operation goes by a file, and that does not say it
    `most_experts`: how many a layer may have: llama.cpp's LLAMA_MAX_EXPERTS, which has grown
    `window_pattern`: n: every n-th layer attends to everything, the others to a sliding window, where a file does not
    say it; 0: no windows
    `window_base`: the rope base of the layers with a window, whose rope is not scaled; 0: they turn as the others; a
    file may say another
    `unscaled_windows`: the layers with a window turn by the others' base, unscaled
    `may_lack_windows`: a file that says no window, or one of 0, has none
    `windowed_layers`: a model of so many layers has windows, and no other; 0: any may
    `chunk`: the window, which no file says and which is of chunks; 0: a file says it
    `eps`: the metadata key of what norms add
    `norm`: the kind of the last norm, as operations.Norm's
    `last_norm`: its name
    `numbers`: further metadata keys that are numbers of the computation → what is taken where they are absent
    `logits`: "over" divides logits by logit_scale, "times" multiplies them by it
    `embedding_scale`: multiply embeddings by sqrt(n_embd)
    `wide_scale_layers`: a model of so many layers scales attention by its width, not by key_length
    `image_places`: where a file has rope.dimension_sections, other columns of a head are paired, which is not computed
    `scaled`: what names of matrices begin with whose scales (.scale) llama.cpp multiplies by, beside attention's
    `whole_heads`: all heads together are as wide as an embedding
    """

    name: str
    top: tuple[TensorLine, ...]
    layer: tuple[TensorLine, ...]
    classes: tuple[ModelClass, ...] = ()
    keys: tuple[str | MetadataKey, ...] = ()
    order: tuple[str, ...] = ()
    sizes: Callable[[Sizes], Sizes] | None = None
    needed: tuple[str, ...] = NEEDED
    since: int = 0
    operations: tuple[Operation, ...] = ()
    experts: Literal["never", "maybe", "always"] = "never"
    scoring: Scoring = "softmax"
    most_experts: int = 256
    window_pattern: int = 0
    window_base: float = 10000.0
    unscaled_windows: bool = False
    may_lack_windows: bool = False
    embedding_scale: bool = False
    wide_scale_layers: int = 0
    image_places: bool = False
    scaled: tuple[str, ...] = ()
    whole_heads: bool = False
    windowed_layers: int = 0
    chunk: int = 0
    eps: str = "attention.layer_norm_rms_epsilon"
    norm: Literal["rms", "layer"] = "rms"
    last_norm: str = "output_norm"
    numbers: Mapping[str, float] = field(default_factory=dict)
    logits: Literal["", "over", "times"] = ""

    @property
    def is_computed(self) -> bool:
        """Whether the engine evaluates it."""
        return bool(self.operations)
