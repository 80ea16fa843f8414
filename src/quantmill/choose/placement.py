"""Whether a file fits a machine, and how many of its layers then lie on the graphics cards."""

from collections.abc import Sequence
from dataclasses import dataclass

from quantmill.choose.machine import Machine
from quantmill.choose.shape import Shape, WeightBytes


@dataclass(frozen=True)
class Placement:
    """`layers` are what llama.cpp's -ngl is to be: the last so many on the cards, one more than the model has when the
    output is there too, 0 for the processor alone. `vram` and `ram` are what that takes, in bytes."""

    layers: int
    full: bool
    vram: int
    ram: int


def best_placement(weights: WeightBytes, shape: Shape, machine: Machine, context: int, flash: bool) -> Placement | None:
    """The placement with the most layers on the cards; None when even the processor has no room for the rest."""
    cache, buffer = shape.cache_bytes(context), shape.buffer_bytes(context, flash)
    everything = shape.layers + 1
    for count in range(everything if machine.vram else 0, -1, -1):
        first = max(shape.layers - count, 0)
        parts = [size + cache for size in weights.layers[first:]]
        full = count == everything
        if full:
            parts[-1] += weights.output
        vram = _fill(parts, machine.rooms, buffer) if count else 0
        if vram is None:
            continue
        ram = weights.input + sum(weights.layers[:first]) + first * cache + (0 if full else weights.output + buffer)
        ram += weights.unsure if first else 0
        if ram + (vram if machine.unified else 0) <= machine.room:
            return Placement(count, full, vram, ram)
    return None


def room_on_card(shape: Shape, vram: int, context: int) -> int:
    """Bytes of weights that lie on one graphics card of so much memory beside what the context takes."""
    (room,) = Machine("cuda", (vram,), 0).rooms
    return room - shape.layers * shape.cache_bytes(context) - shape.buffer_bytes(context, False)


def _fill(parts: Sequence[int], rooms: Sequence[int], buffer: int) -> int | None:
    """Bytes on the cards when each takes as many layers in a row as it has room for beside its buffer; None when
    layers are left over."""
    at = used = 0
    for room in rooms:
        left = room - buffer
        before = at
        while at < len(parts) and parts[at] <= left:
            left -= parts[at]
            used += parts[at]
            at += 1
        used += buffer if at > before else 0
    return used if at == len(parts) else None
