"""The numeric kernels, compiled from kernels/. Arrays in, bytes out; see docs/kernels.md.

Bytes do not depend on the level of instruction sets that runs, nor on how rows are shared between calls; but, as with
ggml, those of arithmetic below 4 depend on what is in one call where groups of IQ1_S and IQ1_M are all zeros, or where
weights or importance are so large or small that sums overflow or vanish.
"""

from typing import Literal, TypeAlias, final

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.int32]
Doubles: TypeAlias = npt.NDArray[np.float64]
Activation: TypeAlias = Literal[
    "silu", "gelu", "gelu_erf", "gelu_quick", "relu", "relu_squared", "sigmoid", "tanh", "softplus", "exp"
]
Scoring: TypeAlias = Literal["softmax", "sigmoid", "sqrt_softplus", "softmax_chosen", "sigmoid_chosen"]

def quantize(
    type: str,
    src: npt.NDArray[np.float32],
    dst: npt.NDArray[np.uint8],
    importance: npt.NDArray[np.float32] | None = None,
    generation: int = 1,
) -> None:
    """Quantize the rows of `src`, shape (rows, cols), into `dst`, shape (rows * row bytes,), as ggml does.

    `importance` is None or has shape (cols,); `arithmetic` is the number
    of a QuantArithmetic. Arrays are C-contiguous and do not overlap. The interpreter's lock is released. ValueError
    says what does not fit, before a byte is written.
    """

def dequantize(type: str, src: npt.NDArray[np.uint8], dst: npt.NDArray[np.float32]) -> None:
    """Expand `src`, shape (rows * row bytes,), into `dst`, shape (rows, cols). Errors and lock as in quantize()."""

def quantize_stored(
    source: str,
    src: npt.NDArray[np.uint8],
    type: str,
    dst: npt.NDArray[np.uint8],
    tile: npt.NDArray[np.float32],
    importance: npt.NDArray[np.float32] | None = None,
    generation: int = 1,
) -> bool:
    """dequantize() `src` and quantize() it into `dst`, both of whole rows, as many of them at a time as `tile` has.

    `tile`, shape (rows, cols) with at least one of each, is where the weights are meanwhile; one that a core's cache
    holds is fastest. True if all weights are finite; if not, what `dst` holds means nothing. The rest as in quantize().
    """

def isa() -> str:
    """The level whose kernels run: "x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-bf16", "x86-64-v4-amx", "aarch64".

    The highest this machine runs, unless the environment variable QUANTMILL_ISA names another when this module is
    imported (ImportError if this machine cannot run it).
    """

def isa_levels() -> list[str]:
    """The levels with quantizers of their own that this machine runs, lowest first. "x86-64-v4-bf16" and
    "x86-64-v4-amx" have those of v4."""

def set_isa(level: str) -> None:
    """Run the kernels of another level from now on, in every thread; ValueError if this machine cannot."""

def quantize_types() -> list[str]:
    """The types that quantize() writes."""

# ---- The forward pass ----
# Arrays are C-contiguous and, but where it is said, do not overlap. Results are the same bits for any number of threads
# (1 to 1024) and on any level. The interpreter's lock is released. ValueError says what does not fit, before anything
# is written. Rows may be several sequences of one length, one after the other: row r is at position r % sequence.

@final
class Panels:
    """The weights of a matrix, (rows, cols), packed by pack() for one arithmetic."""

    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def arithmetic(self) -> Literal["f32", "bf16x2"]: ...
    @property
    def nbytes(self) -> int:
        """Memory held: about 2 bytes a weight of BF16 (and of F16 in f32), 4 of any other type."""

def pack(
    type: str, src: npt.NDArray[np.uint8], rows: int, cols: int, arithmetic: Literal["f32", "bf16x2"], threads: int
) -> Panels:
    """Pack weights of any type that dequantize() reads. `src` has shape (rows * row bytes,); any range of a matrix's
    rows may be packed by itself."""

def repack(panels: Panels, type: str, src: npt.NDArray[np.uint8], rows: int, cols: int, threads: int) -> None:
    """Other weights into a Panels object, in its arithmetic and the memory it has, if that is enough."""

def matmul(x: Floats, w: Panels, out: Floats, threads: int) -> None:
    """out = x @ w.T; x is (m, w.cols), out (m, w.rows). docs/forward.md defines the two arithmetics bit by bit."""

def matmuls(x: Floats, ws: list[Panels], outs: list[Floats], threads: int) -> None:
    """The products of one x with weights of one arithmetic, each in its place of `outs`, which do not overlap."""

def rms_norm(x: Floats, weight: Floats | None, out: Floats, eps: float, threads: int, *, groups: int = 1) -> None:
    """out = x / sqrt(mean of squares of the row + eps) * weight; x and out (rows, n), weight (n,). `out` may be `x`.

    With groups, each of so many equal parts of a row has a mean of its own.
    """

def layer_norm(
    x: Floats,
    weight: Floats | None,
    bias: Floats | None,
    out: Floats,
    eps: float,
    threads: int,
    *,
    groups: int = 1,
) -> None:
    """out = (x - mean) / sqrt(variance + eps) * weight + bias; shapes, groups and `out` as in rms_norm()."""

def l2_norm(x: Floats, out: Floats, eps: float, threads: int, *, inside: bool = False) -> None:
    """out = x / max(root of the row's squares, eps), as ggml_l2_norm; / sqrt(squares + eps) if `inside`, as
    build_gdn_l2_norm. x and out are (rows, n); `out` may be `x`."""

def rope_table(
    dims: int,
    base: float,
    cos: Floats,
    sin: Floats,
    *,
    scale: float = 1.0,
    freq_factors: Floats | None = None,
    ext_factor: float = 0.0,
    attn_factor: float = 1.0,
    beta_fast: float = 32.0,
    beta_slow: float = 1.0,
    original_context: int = 0,
    first: int = 0,
) -> None:
    """Fill `cos` and `sin`, (positions, dims / 2), for the positions from `first` on.

    The angle of pair i at position p is p * base^(-2i / dims) / freq_factors[i] * scale; with an ext_factor it is mixed
    with the unscaled one, and both tables are multiplied, as YaRN does. The parameters are ggml_rope_ext's, `scale` its
    freq_scale. Angles are limited to 2^20. LongRoPE is its long or short factors and an attn_factor. The several
    positions of a multimodal rope are one for text, so its tables are these, too; where an interleaved one has a fourth
    position, which is 0, the divisor is infinity.
    """

def rope(
    x: Floats,
    cos: Floats,
    sin: Floats,
    mode: Literal["neox", "norm"],
    sequence: int,
    threads: int,
    *,
    offset: int = 0,
) -> None:
    """Rotate x, (m, heads, dims), in place: the pairs (i, i + half) if "neox", (2i, 2i + 1) if "norm", half being the
    tables' columns. They are counted from `offset` on; dimensions before it and from offset + 2 * half on stay."""

def attention(
    q: Floats,
    k: Floats,
    v: Floats,
    out: Floats,
    scale: float,
    sequence: int,
    window: int = 0,
    threads: int = 1,
    *,
    chunk: int = 0,
    soft_cap: float = 0.0,
    sinks: Floats | None = None,
    slopes: Floats | None = None,
) -> None:
    """Causal attention within each sequence: softmax(q k^T * scale) v, in f32.

    q is (m, heads, dims), k (m, kv_heads, dims), v (m, kv_heads, value_dims), out (m, heads, value_dims); heads is a
    multiple of kv_heads. With a window w, row i sees only j > i - w; with a chunk c, only j >= i // c * c. A soft cap
    makes scores cap * tanh(score / cap). Then `slopes`, (heads,), times i - j are taken off (ALiBi). `sinks`, (heads,),
    are one more score each, which has a weight and no value.
    """

def softmax(x: Floats, threads: int) -> None:
    """Of each row of x, (rows, n), in place."""

def activate(activation: Activation, x: Floats, out: Floats, threads: int) -> None:
    """out = activation(x), both (rows, n). "gelu" is its tanh form. `out` may be `x`."""

def gated(activation: Activation, gate: Floats, up: Floats, out: Floats, threads: int) -> None:
    """out = activation(gate) * up, all (rows, n). `out` may be `gate` or `up`."""

def clamped_swiglu(
    gate: Floats, up: Floats, out: Floats, alpha: float, limit: float, shift: float, threads: int
) -> None:
    """out = g / (1 + exp(-alpha g)) * (u + shift), g being at most the limit and u within it; all (rows, n).

    alpha 1.702 and shift 1 are ggml_swiglu_oai, 1 and 0 ggml_swiglu_clamp. `out` may be `gate` or `up`.
    """

def silu_mul(gate: Floats, up: Floats, out: Floats, threads: int) -> None:
    """out = gate / (1 + exp(-gate)) * up, all (rows, n). `out` may be `gate` or `up`."""

def gelu_mul(gate: Floats, up: Floats, out: Floats, threads: int) -> None:
    """out = gelu(gate) * up with gelu's tanh form, all (rows, n). `out` may be `gate` or `up`."""

def add(a: Floats, b: Floats, out: Floats, threads: int) -> None:
    """out = a + b; a and out are (rows, n), b too or (n,). `out` may be `a`."""

def multiply(a: Floats, b: Floats, out: Floats, threads: int) -> None:
    """out = a * b, as add()."""

def scale(x: Floats, factor: float, threads: int) -> None:
    """x *= factor, x (rows, n)."""

def scale_rows(x: Floats, factors: Floats, threads: int) -> None:
    """x[i] *= factors[i]; x (rows, n), factors (rows,)."""

def soft_cap(x: Floats, cap: float, threads: int) -> None:
    """x = cap * tanh(x / cap), x (rows, n)."""

def clamp(x: Floats, low: float, high: float, threads: int) -> None:
    """x = the nearest number from low to high, x (rows, n)."""

def add_rows(acc: Floats, rows: Integers, weights: Floats, y: Floats, threads: int) -> None:
    """acc[rows[i]] += weights[i] * y[i] for i ascending; acc (m, n), rows and weights (r,), y (r, n)."""

def column_sums(x: Floats, acc: Floats, threads: int) -> None:
    """acc[c] += x[r, c]^2 for r ascending, square and sum each rounded to float32, as llama-imatrix adds; acc (n,)."""

def top_k(
    logits: Floats,
    ids: Integers,
    weights: Floats,
    normalize: bool,
    threads: int,
    *,
    scoring: Scoring = "softmax",
    bias: Floats | None = None,
    groups: int = 1,
    groups_chosen: int = 1,
    scale: float = 1.0,
) -> None:
    """The k experts of the largest scores of each row, descending, the lower index first of equals, and their weights,
    as build_moe_ffn of llama.cpp; logits (m, n), ids and weights (m, k).

    Scores are softmax, sigmoid or sqrt(softplus) of the logits; the "chosen" scorings choose by logits and score what
    was chosen. `bias`, (n,), is added for choosing only. With groups, only the `groups_chosen` of them whose two best
    experts have the largest sums are chosen from. `normalize` divides a row's weights by their sum (at least 2^-14);
    then they are multiplied by `scale`.
    """

def convolve(x: Floats, weight: Floats, bias: Floats | None, out: Floats, sequence: int, threads: int) -> None:
    """Each channel's causal convolution: out[r] = sum over i of weight[:, i] * x[r - width + 1 + i], plus bias.

    x and out are (m, channels), weight (channels, width) as ggml_ssm_conv has it, bias (channels,). Before a sequence
    there are zeros.
    """

def ssm_scan(
    x: Floats,
    dt: Floats,
    a: Floats,
    b: Floats,
    c: Floats,
    d: Floats | None,
    out: Floats,
    sequence: int,
    threads: int,
) -> None:
    """Mamba's scan, as ggml_ssm_scan, from a state of zeros in every sequence; dt becomes softplus(dt).

    For each head: state = state * exp(dt a) + (x dt) b; out = state c, plus x d. x and out are (m, heads, dims), dt
    (m, heads), b and c (m, groups, states), d (heads,); heads is a multiple of groups, which have neighbours. a is
    (heads,) in Mamba-2; in Mamba it is (heads, states), with heads of 1 dimension and 1 group.
    """

def delta_net(
    q: Floats,
    k: Floats,
    v: Floats,
    g: Floats,
    beta: Floats,
    out: Floats,
    scale: float,
    sequence: int,
    threads: int,
    *,
    interleaved: bool = True,
) -> None:
    """The gated delta rule, as ggml_gated_delta_net, from a state of zeros in every sequence.

    For each head: state *= exp(g); state += k (v - state k) beta; out = state q * scale. q and k are (m, key_heads,
    key_dims), v and out (m, heads, value_dims), beta (m, heads), g (m, heads) or, for each dimension of a key,
    (m, heads, key_dims). heads is a multiple of key_heads; head h has key head h // (heads // key_heads), or
    h % key_heads where they are not interleaved.
    """

def nll(logits: Floats, targets: Integers, out: Doubles, top: Integers, threads: int) -> None:
    """out = -log softmax(logits)[target], summed in double; top is the first index of the row's largest.
    logits (m, n), the others (m,)."""

def kld(base: Floats, logits: Floats, out: Doubles, threads: int) -> None:
    """The Kullback-Leibler divergence of softmax(logits) from softmax(base), summed in double; (m, n), (m, n), (m,)."""

def fma_operations(steps: int, threads: int) -> int:
    """Run `steps` rounds of fma on registers alone in each thread; how many operations that was, an fma counted as two.

    Over the time it takes this is the most that matmul() in f32 can reach on the level in use.
    """

def forward_levels() -> list[str]:
    """The levels that the forward pass tells apart: isa_levels(), "x86-64-v4-bf16" where the processor has AVX512_BF16,
    and "x86-64-v4-amx" where it has tiles.

    set_isa() and QUANTMILL_ISA take all of them, and "tiles-model", a slow model of the tiles in software, for tests.
    """

class Matrix:
    """One matrix, held as its type's blocks, and its products."""

    def __init__(
        self,
        type: str,
        data: npt.NDArray[np.uint8],
        rows: int,
        cols: int,
        repack: bool = True,
        threads: int = 1,
        activation_bits: int = 16,
    ) -> None:
        """`data`, shape (rows * row bytes,), has one of infer_types(); `cols` is a multiple of 32 and of its block.

        With `repack` the blocks are copied into panels of sixteen rows, else `data` is kept and used as it is.
        `activation_bits` is 8 or 16. The level is the one in use now. ValueError says what does not fit.
        """

    def multiply(self, x: npt.NDArray[np.float32], out: npt.NDArray[np.float32]) -> None:
        """out (n, rows) = x (n, cols) @ w.T, x being rounded to integers for each 32 columns (not for float weights).

        A row's results do not depend on n nor on the number of threads. The interpreter's lock is released.
        """

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""

class Model:
    """A decoder on quantized blocks, with its cache of keys and values."""

    def __init__(
        self,
        config: dict[str, float],
        layers: dict[str, list[float]],
        threads: int,
        repack: bool = True,
        activation_bits: int = 16,
    ) -> None:
        """`config` has every size and constant by name, `layers` what differs between them, a number for each
        (kernels/infer/model.h); ValueError if one is missing."""

    def set_matrix(self, name: str, type: str, data: npt.NDArray[np.uint8], rows: int, cols: int) -> None:
        """Give a tensor by its name in the file without ".weight". "token_embd" and blocks not repacked are kept."""

    def set_vector(self, name: str, data: npt.NDArray[np.float32]) -> None:
        """Give a vector by its name in the file without ".weight"; or "cosines" and "sines" of all positions."""

    def evaluate(self, tokens: npt.NDArray[np.int32], position: int, logits: npt.NDArray[np.float32]) -> None:
        """Evaluate tokens, shape (n,), at the positions from `position` on, which may not be behind the cache's end;
        what carries a state from token to token is evaluated from 0 or from that end on.

        `logits`, shape (1 or n, vocabulary), are those of the last token or of all. The first call checks that no
        tensor is missing. ValueError says what does not fit. The interpreter's lock is released.
        """

def read_rate(bytes: int, threads: int) -> float:
    """Bytes a second at which so many threads read `bytes` (from 2**20 to 2**40) of memory once, doing nothing else."""

def infer_isa() -> str:
    """The name of the inference kernels that the level in use has on this machine, like "avx512-vnni"."""

def infer_types() -> list[str]:
    """The types that Matrix and Model take."""
