"""Bytes and seconds in words, and sizes as people write them."""

import re

AGES = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
LARGEST = 1 << 63  # bytes: no file or memory has so many


def parse_size(text: str | int) -> int:
    """Bytes of `"50GB"`, `"300 MB"`, `"4GiB"` or a plain number; ValueError otherwise. GB is 10^9, as for disks."""
    found = text if isinstance(text, int) else _written(text)
    if found < 0:
        raise ValueError("a size is not negative")
    if found >= LARGEST:
        raise ValueError("a size is below 2^63 bytes; write it like 50GB or 300MB")
    return int(found)


def _written(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a size; write it like 50GB or 300MB")
    number, prefix, binary = match.groups()
    unit: int = (1024 if binary else 1000) ** " KMGT".index(prefix or " ")
    return float(number) * unit


def parse_age(text: str) -> int:
    """Seconds of `"30d"`, `"12h"`, `"5m"` or `"10s"`; ValueError otherwise."""
    number, unit = text[:-1], text[-1:]
    if unit not in AGES or not (number.isascii() and number.isdecimal()) or len(number) > 6:
        raise ValueError(f"{text!r} is no age; write it like 30d or 12h")
    return int(number) * AGES[unit]


def size_text(count: int) -> str:
    """Bytes as release pages write them: GB of 10^9 bytes with two digits, MB below one."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.2f} MB"


def disk_text(count: int) -> str:
    """Bytes of whole stores: as `size_text`, and in TB from 10,000 GB on."""
    return f"{count / 1e12:,.2f} TB" if count >= 1e13 else size_text(count)


def duration_text(seconds: float) -> str:
    """Seconds below 90, else minutes, hours or days."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 200 * 3600:
        return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:,.0f} days"
