"""The tensors of a checkpoint in FP8: each projection's 8-bit weights, and a scale for each block of 128 by 128."""


def fp8(tensors: str, scale: str = "F32") -> str:
    """Lines of tensors, those of projections replaced; `scale` is the dtype of the scales."""
    lines = []
    for line in tensors.strip().splitlines():
        name, shape = line.split()[:2]
        if not name.endswith(("_proj.weight", "_proj_with_mqa.weight", ".w1.weight", ".w2.weight", ".w3.weight")):
            lines.append(line)
            continue
        blocks = "x".join(str(-(-int(size) // 128)) for size in shape.split("x"))
        lines += [f"{name} {shape} F8_E4M3", f"{name}_scale_inv {blocks} {scale}"]
    return "\n" + "\n".join(lines) + "\n"
