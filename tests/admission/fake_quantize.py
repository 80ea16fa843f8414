"""A llama-quantize that writes quantmill's own file with one thing changed, CHANGE: `type`, `key` or `block`."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from quantmill import gguf
from quantmill.errors import QuantmillError
from quantmill.gguf.types import ValueType
from quantmill.quant.quantizer import quantize_file
from quantmill.reference.reference import Reference
from quantmill.reference.spans import of_tag


def changed(what: str) -> Reference:
    """The newest rules, one of them another."""
    newest = of_tag("v0.5.0")
    if what == "type":
        return replace(newest, mix=newest.mix | {("ffn_down", "Q4_K_M"): "Q5_K"})
    if what == "key":
        keys = newest.header.keys | {"general.quantization_version": (ValueType.UINT32, 3)}
        return replace(newest, header=replace(newest.header, keys=keys))
    return newest


def main() -> int:
    """Take llama-quantize's arguments, as far as the conformance set has them."""
    parser = argparse.ArgumentParser()
    for name in ("--pure", "--leave-output-tensor"):
        parser.add_argument(name, action="store_true")
    for name in ("--output-tensor-type", "--token-embedding-type", "--imatrix", "--prune-layers"):
        parser.add_argument(name)
    for name in ("--tensor-type", "--override-kv"):
        parser.add_argument(name, action="append", default=[])
    for name in ("base", "out", "ftype", "threads"):
        parser.add_argument(name)
    given, what = parser.parse_args(), os.environ.get("CHANGE", "")
    try:
        quantize_file(
            Path(given.base),
            Path(given.out),
            given.ftype,
            imatrix=Path(given.imatrix) if given.imatrix else None,
            imatrix_name=given.imatrix,
            reference=changed(what),
            pure=given.pure,
            leave_output_tensor=given.leave_output_tensor,
            output_tensor_type=given.output_tensor_type and given.output_tensor_type.upper(),
            token_embedding_type=given.token_embedding_type and given.token_embedding_type.upper(),
            tensor_types=[(text.split("=")[0], text.split("=")[1].upper()) for text in given.tensor_type],
            override_kv=[(text.split("=int:")[0], int(text.split("=int:")[1])) for text in given.override_kv],
            prune_layers=tuple(map(int, given.prune_layers.split(","))) if given.prune_layers else (),
        )
    except QuantmillError:
        return 1
    if what == "block":
        flip(Path(given.out), "blk.3.ffn_up.weight")
    return 0


def flip(path: Path, tensor: str) -> None:
    """Turn the last bit of a tensor's last byte but one."""
    with gguf.read(path) as file:
        found = file.tensors.get(tensor)
        place = None if found is None else bytes(file.data(found))
    if place is not None:
        data = path.read_bytes()
        at = data.rindex(place) + len(place) - 2
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])


if __name__ == "__main__":
    raise SystemExit(main())
