"""What architectures with Mamba 2 in their layers share."""

from quantmill.architectures.architecture import Facts, MetadataKey, TensorLine
from quantmill.architectures.conditions import Sizes, Where, whole
from quantmill.architectures.errors import ModelError


def mamba_lines(part: str, where: Where) -> tuple[TensorLine, ...]:
    """The tensors of a layer's Mamba 2, which a checkpoint has in that part of a layer."""
    lines = (
        TensorLine("ssm_in.weight", "embd ssm_in", "in_proj.weight"),
        TensorLine("ssm_conv1d.weight", "conv ssm_conv", "conv1d.weight", change="squeeze", f32=True),
        TensorLine("ssm_conv1d.bias", "ssm_conv", "conv1d.bias"),
        TensorLine("ssm_dt.bias", "ssm_heads", "dt_bias"),
        TensorLine("ssm_a", "one ssm_heads", "A_log", change="decay"),
        TensorLine("ssm_d", "one ssm_heads", "D", change="shaped"),
        TensorLine("ssm_norm.weight", "group groups", "norm.weight", change="shaped"),
        TensorLine("ssm_out.weight", "inner embd", "out_proj.weight"),
    )
    return tuple(
        TensorLine(line.name, line.dims, f"{part}.{line.source}", where=where, change=line.change, f32=line.f32)
        for line in lines
    )


def mamba_keys(conv: str, inner: str, states: str, heads: str, groups: str) -> tuple[MetadataKey, ...]:
    """The keys of a Mamba 2, from config.json's names."""
    return (
        MetadataKey("ssm.conv_kernel", conv, size="conv"),
        MetadataKey("ssm.state_size", states, size="states"),
        MetadataKey("ssm.group_count", groups, size="groups"),
        MetadataKey("ssm.inner_size", inner, size="inner"),
        MetadataKey("ssm.time_step_rank", heads, size="ssm_heads"),
    )


def mamba_sizes(sizes: Sizes) -> Sizes:
    """The widths that follow from those."""
    inner, groups, states = (whole(sizes[name]) for name in ("inner", "groups", "states"))
    conv = inner + 2 * groups * states
    return {
        "ssm_conv": conv,
        "ssm_in": inner + conv + whole(sizes["ssm_heads"]),
        "group": inner // max(groups, 1),
        "one": 1,
    }


def check_mamba(facts: Facts, *keys: str) -> None:
    """Raises a ModelError unless the keys are sizes."""
    for key in keys:
        value = facts.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ModelError(f"config.json's `{key}` is {value!r}; a positive whole number would be right")


def check_heads(facts: Facts, inner: int, heads: str, width: str, groups: str) -> None:
    """Raises a ModelError unless heads are together as wide as the whole, and groups are of whole heads."""
    count = facts[heads]
    given = facts[width] if facts[width] is not None and facts[width] != "auto" else inner // count
    if not isinstance(given, int) or isinstance(given, bool) or count * given != inner:
        raise ModelError(f"config.json's `{heads}` {count} of `{width}` {facts[width]!r} are not {inner} together")
    if count % facts[groups]:
        raise ModelError(f"config.json's `{groups}` {facts[groups]} does not divide the {count} of `{heads}`")
