"""card: the release's README.md, plain: what it is, and a table of its files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantmill.artifact import Artifact, Context


def run(inputs: Mapping[str, Artifact], params: Mapping[str, Any], out: Path, context: Context) -> None:
    """Write `README.md`. `inputs`: `<FTYPE>/<file name>` for each released file (only names and sizes are used);
    `params`: prefix, base, llama_cpp, ftypes in the order of the table."""
    lines = [
        f"# {params['prefix']} in GGUF",
        "",
        f"Quantizations of {params['base']} by quantmill, byte for byte those of llama.cpp {params['llama_cpp']}.",
        "They run in llama.cpp and every program on it. `sha256sum -c SHA256SUMS` checks a download.",
        "",
        "| File | Type | Size | Split |",
        "| --- | --- | --- | --- |",
    ]
    for ftype in params["ftypes"]:
        files = {n.partition("/")[2]: a for n, a in inputs.items() if n.startswith(f"{ftype}/")}
        name = min(files)
        split = len(files) > 1
        shown = name.partition("/")[0] + "/" if split else name
        lines.append(f"| [{shown}]({shown}) | {ftype} | {size(sum(a.size for a in files.values()))} | {yes(split)} |")
    (out / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    context.progress(1, 1)


def size(count: int) -> str:
    """Bytes as release pages write them: GB of 10^9 bytes with two digits, MB below one."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def yes(flag: bool) -> str:
    """`yes` or `no`."""
    return "yes" if flag else "no"
