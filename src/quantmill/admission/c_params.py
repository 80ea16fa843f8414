"""llama.h's parameters of llama_model_quantize, made for a call: as arrays, or before b8660 as C++'s containers.

The containers are laid out here as libstdc++ lays them out on machines of 64 bits: the library only reads them.
"""

import ctypes
from collections.abc import Sequence
from ctypes import (
    Structure,
    addressof,
    c_bool,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_void_p,
)
from pathlib import Path
from typing import Any

from quantmill.admission.conformance import CHUNKS, DATASET, IMATRIX_NAME
from quantmill.gguf.types import TYPES
from quantmill.imatrix import Entry
from quantmill.imatrix.legacy import parse
from quantmill.reference.ftypes import Ftype

SEED = 0xC70F6907  # of std::hash<std::string>


class _Value(ctypes.Union):
    _fields_ = (("whole", c_int64), ("real", c_double), ("yes", c_bool), ("text", c_char * 128))


class _Override(Structure):  # llama_model_kv_override; tag 0 is a whole number, 3 a text
    _fields_ = (("tag", c_int32), ("key", c_char * 128), ("value", _Value))


class _Pattern(Structure):  # llama_model_tensor_override
    _fields_ = (("pattern", c_char_p), ("type", c_int32))


class _Vector(Structure):  # llama_model_imatrix_data
    _fields_ = (("name", c_char_p), ("data", ctypes.POINTER(c_float)), ("size", c_size_t))


class Params(Structure):
    """llama_model_quantize_params, and room for what later tags add at its end."""

    _fields_ = (
        *((name, c_int32) for name in ("nthread", "ftype", "output_tensor_type", "token_embedding_type")),
        *((name, c_bool) for name in ("allow_requantize", "quantize_output_tensor", "only_copy", "pure", "keep_split")),
        ("dry_run", c_bool),
        *((name, c_void_p) for name in ("imatrix", "kv_overrides", "tt_overrides", "prune_layers")),
        ("room", c_char * 256),
    )


class _StdVector(Structure):
    _fields_ = tuple((name, c_void_p) for name in ("begin", "end", "room"))


class _StdString(Structure):
    _fields_ = (("data", c_void_p), ("size", c_size_t), ("short", c_char * 16))


class _StdPattern(Structure):  # tensor_quantization
    _fields_ = (("pattern", _StdString), ("type", c_int32))


class _StdNode(Structure):  # of an std::unordered_map<std::string, std::vector<float>>
    _fields_ = (("next", c_void_p), ("name", _StdString), ("data", _StdVector), ("hash", c_size_t))


class _StdMap(Structure):  # with one bucket, which holds them all
    _fields_ = (
        *(("buckets", c_void_p), ("bucket_count", c_size_t), ("first", c_void_p), ("count", c_size_t)),
        *(("load", c_float), ("resize", c_size_t), ("bucket", c_void_p)),
    )


class Arrays:
    """Fills the parameters of a call from b8660 on; `kept` is what they point to."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def fill(self, params: Any, ftype: Ftype, options: dict[str, Any], guide: Path | None) -> None:
        """The options as quantize_file takes them, and the imatrix of that file."""
        params.ftype, params.only_copy = ftype.id, ftype.name == "COPY"
        params.pure = options.get("pure", False)
        params.quantize_output_tensor = not options.get("leave_output_tensor", False)
        for name in ("output_tensor_type", "token_embedding_type"):
            type_ = TYPES[options[name]] if name in options else ftype.embedding_and_output
            if type_ is not None:
                setattr(params, name, type_.id)
        overrides: list[tuple[str, int | bytes]] = list(options.get("override_kv", ()))
        if guide is not None:
            entries, _, _ = parse(str(guide), guide.read_bytes())
            params.imatrix = self.vectors(entries)
            overrides += [("quantize.imatrix.file", IMATRIX_NAME.encode()), ("quantize.imatrix.dataset", DATASET)]
            overrides += [("quantize.imatrix.entries_count", len(entries)), ("quantize.imatrix.chunks_count", CHUNKS)]
        if overrides:
            params.kv_overrides = self.overrides(overrides)
        if patterns := options.get("tensor_types"):
            params.tt_overrides = self.patterns([(pattern.encode(), TYPES[name].id) for pattern, name in patterns])
        if layers := options.get("prune_layers"):
            params.prune_layers = self.layers(layers)

    def _at(self, made: Any) -> int:
        self.kept.append(made)
        return addressof(made)

    def overrides(self, given: Sequence[tuple[str, int | bytes]]) -> int:
        """Whole numbers and texts by key; an entry without a key ends them."""
        return self._at(_override_array(given))

    def patterns(self, given: Sequence[tuple[bytes, int]]) -> int:
        """Patterns and types."""
        made = (_Pattern * (len(given) + 1))()
        for entry, (pattern, type_) in zip(made, given, strict=False):
            entry.pattern, entry.type = pattern, type_
        return self._at(made)

    def layers(self, given: Sequence[int]) -> int:
        """The layers that go."""
        return self._at((c_int32 * (len(given) + 1))(*given, -1))

    def vectors(self, entries: Sequence[Entry]) -> int:
        """The importance vectors."""
        made = (_Vector * (len(entries) + 1))()
        for vector, entry in zip(made, entries, strict=False):
            self.kept.append(entry.values)
            vector.name, vector.size = entry.name.encode(), entry.values.size
            vector.data = entry.values.ctypes.data_as(ctypes.POINTER(c_float))
        return self._at(made)


class Containers(Arrays):
    """The same before b8660."""

    def _vector(self, made: Any) -> _StdVector:
        begin = self._at(made)
        end = begin + ctypes.sizeof(made)
        return _StdVector(begin, end, end)

    def _string(self, text: bytes) -> _StdString:
        return _StdString(self._at(ctypes.create_string_buffer(text)), len(text))

    def overrides(self, given: Sequence[tuple[str, int | bytes]]) -> int:
        return self._at(self._vector(_override_array(given)))

    def patterns(self, given: Sequence[tuple[bytes, int]]) -> int:
        rows = [_StdPattern(self._string(pattern), type_) for pattern, type_ in given]
        return self._at(self._vector((_StdPattern * len(rows))(*rows)))

    def layers(self, given: Sequence[int]) -> int:
        return self._at(self._vector((c_int32 * len(given))(*given)))

    def vectors(self, entries: Sequence[Entry]) -> int:
        hashed: Any = ctypes.CDLL("libstdc++.so.6")._ZSt11_Hash_bytesPKvmm
        hashed.argtypes, hashed.restype = (c_char_p, c_size_t, c_size_t), c_size_t
        found = _StdMap(bucket_count=1, count=len(entries), load=1.0)
        for entry in entries:
            name, size = entry.name.encode(), entry.values.nbytes
            self.kept.append(entry.values)
            begin = entry.values.ctypes.data
            data = _StdVector(begin, begin + size, begin + size)
            node = _StdNode(found.first, self._string(name), data, hashed(name, len(name), SEED))
            found.first = self._at(node)
        at = self._at(found)
        found.bucket, found.buckets = at + _StdMap.first.offset, at + _StdMap.bucket.offset
        return at


def _override_array(given: Sequence[tuple[str, int | bytes]]) -> Any:
    made = (_Override * (len(given) + 1))()
    for entry, (key, value) in zip(made, given, strict=False):
        entry.key = key.encode()
        if isinstance(value, bytes):
            entry.tag, entry.value.text = 3, value[:127]
        else:
            entry.value.whole = value
    return made
