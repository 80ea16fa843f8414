"""The order in which llama-imatrix writes its entries: that of a hash table.

Its entries are in a `std::unordered_map` by name, in the order of the table's one list. The Linux builds of llama.cpp
use GNU's library. There the order follows from the names, the order of their first use, the hash (a 64-bit Murmur
hash) and the primes that the table grows by. A name goes to the front of its bucket's names, and to the front of all
when the bucket is empty. A table that is full is filled anew, in the order of its list.
"""

from collections.abc import Iterable

_MASK = (1 << 64) - 1
_MULTIPLIER = 0xC6A4A7935BD1E995
_SEED = 0xC70F6907
_BUCKETS = (13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229, 172933)


def hash_order(names: Iterable[str]) -> list[str]:
    """`names`, given in the order of their first use, in the order of the table."""
    buckets = iter(_BUCKETS)
    size = next(buckets)
    found: list[tuple[str, int]] = []
    for name in names:
        if len(found) == size:
            size = next(buckets)
            filled: list[tuple[str, int]] = []
            for known in found:
                _insert(filled, known, size)
            found = filled
        _insert(found, (name, _hash(name.encode())), size)
    return [name for name, _ in found]


def _insert(names: list[tuple[str, int]], name: tuple[str, int], size: int) -> None:
    bucket = name[1] % size
    names.insert(next((at for at, known in enumerate(names) if known[1] % size == bucket), 0), name)


def _hash(data: bytes) -> int:
    value = (_SEED ^ len(data) * _MULTIPLIER) & _MASK
    whole = len(data) & ~7
    for at in range(0, whole, 8):
        word = int.from_bytes(data[at : at + 8], "little") * _MULTIPLIER & _MASK
        value = (value ^ (word ^ word >> 47) * _MULTIPLIER) * _MULTIPLIER & _MASK
    if len(data) > whole:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MULTIPLIER & _MASK
    value = (value ^ value >> 47) * _MULTIPLIER & _MASK
    return value ^ value >> 47
