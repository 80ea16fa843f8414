"""What fits into the memory that is allowed: how many chunks go together, which weights stay packed, what spills.

Everything that grows with the model or the text is counted, and comes from the system directly (buffers.py, memory.h),
so that it is gone when it is no longer used. The heap holds small things only.
"""

from dataclasses import dataclass

from quantmill.architectures.conditions import most, never, whole
from quantmill.architectures.operations import (
    Aside,
    Attend,
    AttendCompressed,
    DeltaNet,
    Feed,
    Laurel,
    LayerInputs,
    Predict,
    Scan,
    ShortConvolve,
)
from quantmill.engine.errors import TooLittleMemory
from quantmill.engine.matrix import panel_bytes
from quantmill.engine.model import EMBEDDED, Model
from quantmill.engine.run import Run

BASE = 64 << 20  # bytes of the process itself, about twice of what was seen: the interpreter, its modules, the heap
_WORD = 640  # bytes of an entry of the vocabulary, in metadata and tokenizer (420 where there are 152,000)
_ID = 16  # bytes of a token of the text, of which there may be several forms
_PACKED = {"f32": 4, "bf16x2": 8}  # bytes of a product's input as it is packed, at most (kernels/forward/gemm_*.cpp)
_PACKED_ROWS = 520  # rows of inputs that are packed together, at most
_ROWS = 16 << 20  # bytes of panels when a matrix goes by ranges of rows; a product's part takes no more
_TOKENS = 1024  # tokens that go together where a layer stays packed: enough for the matrix product's full speed
_PIECE = 512  # … or that a thread takes by itself
_MANY = 8192  # … and where a layer has to be packed again for every group


@dataclass(frozen=True)
class Budget:
    """How an evaluation divides its work.

    `group`: chunks that go together through a layer
    `tokens`: tokens in all of a group
    `step`: weights that are packed at a time, 0 for whole matrices that stay
    `spilled`: whether the states live in a file
    `room`: bytes that are left for the output
    `piece`: chunks of a group that are one thread's at a time, 0 when all threads share all
    """

    group: int
    tokens: int
    step: int
    spilled: bool
    room: int
    piece: int = 0

    def rows(self, columns: int) -> int:
        """Rows of a matrix of so many columns that are packed at a time; 0 for all, to be kept."""
        return ranged(self.step, columns, self.tokens) if self.step else 0


def ranged(step: int, columns: int, tokens: int) -> int:
    """Rows of a matrix whose weights, and whose results for so many tokens, are at most `step` numbers; at least 16."""
    return max(16, step // max(columns, tokens))


def budget(model: Model, run: Run, chunks: int, length: int) -> Budget:
    """The plan for `chunks` chunks of `length` tokens; raises TooLittleMemory when there is none."""
    hyper = model.hyper
    layer = _layer_bytes(model, run)
    buffers = token_bytes(model) * length
    width = model.columns.width
    chunk = buffers + 4 * length * width  # with a buffer of its own for spilled states
    states = chunks * length * width * 4
    fixed = BASE + _WORD * hyper.n_vocab + _ID * chunks * length + _sums(model) + _scratch(model, run, chunks, length)
    free = run.memory - fixed - layer - chunk
    ranges, tokens = 0, _MANY if hyper.n_expert else _TOKENS
    if free < 0:
        ranges, tokens = min(_ROWS, layer // 4), _MANY
        free = run.memory - fixed - 2 * ranges - chunk
    if free < 0:
        raise TooLittleMemory(run.memory, run.memory - free)
    spilled = states > free - free // 4
    if not spilled:
        free -= states
    room = run.memory - fixed - (0 if spilled else states)
    piece = max(1, min(_PIECE // length, chunks // run.threads))
    group = min(chunks, piece * run.threads) if spilled else chunks
    needed = run.threads * (piece * buffers + _packed(model, run, piece * length)) + (group if spilled else 0) * (
        chunk - buffers
    )
    if not ranges and not hyper.n_expert and run.threads <= chunks and needed <= free + chunk:
        return Budget(group, group * length, 0, spilled, room, piece)
    group = min(chunks, max(1, tokens // length), 1 + free // chunk)
    return Budget(group, group * length, ranges // 4, spilled, room)


def token_bytes(model: Model) -> int:
    """Bytes of the buffers of one token as it passes a layer."""
    hyper = model.hyper
    head = most(hyper.sizes["head"])
    attention = 2 * hyper.n_embd + 2 * hyper.n_head * head + 4 * hyper.n_head_kv * _whole(head) + _shared_state(model)
    dense = 2 * hyper.n_ff + hyper.n_embd
    attends = [each for each in hyper.row.operations if isinstance(each, Attend)]
    if attends and model.has_any("attn_qkv.weight") and not model.has_any("attn_q.weight"):
        attention += ((2 if attends[0].gated else 1) * hyper.n_head + 2 * hyper.n_head_kv) * hyper.head
    if any(isinstance(each, Feed) and each.fused for each in hyper.row.operations):
        dense += 2 * hyper.n_ff
    if any(isinstance(each, Feed) and each.sparse is not never for each in hyper.row.operations):
        dense += 2 * hyper.n_ff
    attention += _recurrent(model)
    if not hyper.n_expert:
        return 4 * (attention + dense)
    shared = most(hyper.sizes.get("sff", 0))
    beside = shared or any(isinstance(each, Aside) for each in hyper.row.operations)
    dense = max(dense, 2 * shared + hyper.n_embd + 1 if shared else 0)
    rows = 2 * hyper.n_embd + 4 * hyper.n_eff  # of an expert; at worst all tokens choose the same one
    return 4 * (
        attention
        + max(dense, (dense if beside else 0) + rows + hyper.n_embd + 3 * hyper.n_expert + 12 * hyper.n_expert_used)
    )


def _shared_state(model: Model) -> int:
    """Numbers of one token in the buffers of parts whose states hold more than one set of columns."""
    hyper, columns = model.hyper, model.columns
    if columns.width == hyper.n_embd:
        return 0
    count = hyper.n_embd
    for operation in hyper.row.operations:
        if isinstance(operation, LayerInputs):
            count += 3 * hyper.n_embd + 3 * whole(hyper.sizes["per_layer"])
        if isinstance(operation, Predict):
            count += (columns.sets + 8) * hyper.n_embd + 4 * columns.sets * columns.sets
        if isinstance(operation, Laurel):
            count += hyper.n_embd + whole(hyper.sizes["rank"])
    return count


def _recurrent(model: Model) -> int:
    """Numbers of one token in the buffers of parts that go through a text token by token, and of gated attention."""
    hyper, sizes, count = model.hyper, model.hyper.sizes, 0
    for operation in hyper.row.operations:
        if isinstance(operation, ShortConvolve):
            count += 6 * hyper.n_embd
        if isinstance(operation, Scan):
            count += whole(sizes["ssm_in"]) + 3 * whole(sizes["ssm_conv"]) + 2 * whole(sizes["inner"]) + 64
        if isinstance(operation, DeltaNet):
            count += 3 * whole(sizes["qkv"]) + 2 * whole(sizes["inner"]) + 4 * whole(sizes["ssm_heads"])
        if isinstance(operation, AttendCompressed):
            rank, rotary, values = (whole(sizes[name]) for name in ("kv_rank", "rotary", "v_head"))
            wide = whole(sizes["mla"]) + 3 * rank + 2 * rotary + 2 * values
            count += hyper.n_head * wide + 4 * (rank + rotary) + whole(sizes["q_rank"])
        if isinstance(operation, Attend) and operation.gated:
            count += 3 * hyper.n_head * hyper.head
    return count


def _scratch(model: Model, run: Run, chunks: int, length: int) -> int:
    """Bytes that kernels take. These are inputs of a product as they are packed, scores of a block of queries for each
    thread and for each that helps another, and work on weights on their way into a product."""
    hyper = model.hyper
    packed = _packed(model, run, chunks * length)
    head = _whole(most(hyper.sizes["head"]))
    scores = 4 * _whole(length) * 128 + 4 * (head * (_whole(length) - length + 16) + 1024)
    rows = EMBEDDED * 12 * (hyper.n_embd + whole(hyper.sizes["per_layers"]) // 4) if model.columns.token >= 0 else 0
    return packed + run.threads * (2 * scores + (1 << 19) + rows)


def _packed(model: Model, run: Run, tokens: int) -> int:
    """Bytes of the widest input of a product, packed."""
    hyper = model.hyper
    columns = _whole(max(hyper.n_embd, hyper.n_ff, hyper.n_eff, hyper.n_head * most(hyper.sizes["head"])))
    return min(_PACKED_ROWS, tokens + 32) * columns * _PACKED[run.arithmetic]


def _whole(count: int) -> int:
    """The number padded to whole panels."""
    return -(-count // 32) * 32


def _layer_bytes(model: Model, run: Run) -> int:
    """Bytes of the largest layer's packed matrices."""
    layers: dict[str, int] = {}
    for name in model.source.tensors():
        shape, type_ = model.described(name)
        if name.startswith("blk.") and len(shape) > 1:
            count = shape[0] * shape[1] * (shape[2] if len(shape) > 2 else 1)
            layer = name.split(".")[1]
            layers[layer] = layers.get(layer, 0) + count * panel_bytes(type_.name, run.arithmetic)
    inputs = 4 * model.hyper.n_embd * whole(model.hyper.sizes["per_layer"]) if model.columns.token >= 0 else 0
    return max(layers.values()) + inputs


def _sums(model: Model) -> int:
    """Bytes of all importance sums, three times: a checkpoint makes two copies."""
    hyper = model.hyper
    experts = max(1, hyper.n_expert)
    between = max(hyper.n_ff, experts * hyper.n_eff)
    columns = 2 * hyper.n_embd + hyper.n_head * most(hyper.sizes["head"]) + experts * hyper.n_embd + between
    inner = hyper.sizes.get("inner", 0)
    if "kv_rank" in hyper.sizes:
        columns += whole(hyper.sizes["q_rank"])
        columns += 2 * hyper.n_head * (whole(hyper.sizes["kv_rank"]) + whole(hyper.sizes["mla"]))
    columns += 4 * hyper.n_embd + (inner if isinstance(inner, int) else 0)
    if shared := most(hyper.sizes.get("sff", 0)):
        columns += hyper.n_embd + shared
    if model.columns.width > hyper.n_embd:
        columns += 6 * hyper.n_embd + 2 * model.columns.sets
        columns += sum(most(hyper.sizes.get(name, 0)) for name in ("rank", "per_layer"))
    return 3 * 4 * hyper.n_layer * columns
