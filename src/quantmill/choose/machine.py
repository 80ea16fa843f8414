"""A machine as far as it decides which file fits and runs well."""

import re
from dataclasses import dataclass, replace

from quantmill.errors import UsageError, nearest
from quantmill.units import parse_size

GPUS = ("cuda", "rocm", "vulkan", "metal")
BACKENDS = (*GPUS, "cpu-avx2", "cpu-avx512", "arm")
GB = 10**9


@dataclass(frozen=True)
class Machine:
    """`vram` is the memory of each graphics card in bytes (of Apple's chips: what Metal lets one program use of `ram`),
    empty for a processor alone; `ram` is main memory."""

    backend: str
    vram: tuple[int, ...]
    ram: int

    @property
    def unified(self) -> bool:
        """Whether graphics and processor share their memory."""
        return self.backend == "metal"

    @property
    def rooms(self) -> tuple[int, ...]:
        """What each card has for a model: its memory less a twentieth, at least 1 GB and at most 2 GB, for the driver,
        the screen and other programs."""
        return tuple(max(memory - min(max(memory // 20, GB), 2 * GB), 0) for memory in self.vram)

    @property
    def room(self) -> int:
        """What main memory has for a model: all but 2 GB or a sixteenth, whichever is more, for the system and its
        programs; of small memories three quarters."""
        return self.ram - min(max(2 * GB, self.ram // 16), self.ram // 4)

    def beside(self, size: int) -> "Machine":
        """What is left of it when so many bytes lie on the first card or, where there is none, in main memory."""
        if self.vram and not self.unified:
            return replace(self, vram=(max(self.vram[0] - size, 0), *self.vram[1:]))
        return replace(self, vram=tuple(max(each - size, 0) for each in self.vram), ram=max(self.ram - size, 0))


def machine(backend: str, vram: tuple[int, ...], ram: int) -> Machine:
    """A machine; what Metal may use follows from `ram` where it is not given. UsageError for what no machine has."""
    if backend not in BACKENDS:
        raise UsageError(f"{backend!r} is no backend{nearest(backend, BACKENDS)}; it is one of {', '.join(BACKENDS)}")
    if backend == "metal" and not vram:
        vram = (metal_limit(ram),)
    if backend not in GPUS:
        vram = ()
    elif not vram:
        raise UsageError(f"the backend {backend} needs the memory of a graphics card; give it with --vram, like 24GB")
    return Machine(backend, vram, ram)


def metal_limit(ram: int) -> int:
    """What Metal recommends one program to use (recommendedMaxWorkingSetSize): two thirds of less than 36 GB, else
    three quarters, as llama.cpp prints it on Apple's machines."""
    return ram * 2 // 3 if ram < 36 * 10**9 else ram * 3 // 4


def memories(text: str) -> tuple[int, ...]:
    """Bytes of each card of `24GB`, `24` (GB), `2x80GB` or `24GB,8GB`; `0` for none. UsageError otherwise."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(?:(\d{1,2})\s*[xX*]\s*)?(.+?)\s*", part)
        try:
            if match is None:
                raise ValueError(f"{part!r} is not a size")
            found += [memory(match[2])] * int(match[1] or 1)
        except ValueError as error:
            raise UsageError(f"{text!r} is not the memory of graphics cards: {error}") from None
    return tuple(amount for amount in found if amount)


def memory(text: str) -> int:
    """Bytes of `24GB`, `24GiB` or `24`, which is GB; ValueError otherwise."""
    return parse_size(f"{text.strip()}GB" if re.fullmatch(r"\d+(\.\d+)?", text.strip()) else text)
