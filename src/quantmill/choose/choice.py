"""Which file of a release to take on a machine, and why."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quantmill.choose import rules
from quantmill.choose.machine import Machine
from quantmill.choose.placement import Placement, best_placement
from quantmill.choose.shape import Shape, WeightBytes
from quantmill.errors import QuantmillError
from quantmill.released import Bench, ReleasedFile, with_twins
from quantmill.units import size_text

GENERATION = "tg128"  # the bench test that stands for a file's speed


class NothingFits(QuantmillError):
    """No file can be advised."""


@dataclass(frozen=True)
class Candidate:
    """A file, and its weights as they would be placed."""

    file: ReleasedFile
    weights: WeightBytes


@dataclass(frozen=True)
class Choice:
    """A file with its place on the machine."""

    file: ReleasedFile
    placement: Placement


@dataclass(frozen=True)
class Advice:
    """The file to take, sentences that say why, and the next best, if another fits."""

    best: Choice
    why: tuple[str, ...]
    next: Choice | None


def choose(
    candidates: Sequence[Candidate],
    shape: Shape,
    machine: Machine,
    goal: str,
    context: int,
    *,
    flash: bool = False,
    bench: Bench | None = None,
) -> Advice:
    """The advice for a goal, "speed" or "quality"; of files with the same weights, one alone. Raises NothingFits."""
    files = with_twins([candidate.file for candidate in candidates])
    candidates = [candidate for candidate, file in zip(candidates, files, strict=True) if not file.twin]
    placed = [(c, best_placement(c.weights, shape, machine, context, flash)) for c in candidates]
    choices = [Choice(c.file, p) for c, p in placed if p is not None]
    quality = goal == "quality"
    usable = [c for c in choices if rules.usable(c.file.like, machine, quality, c.placement.full)]
    if not usable:
        raise NothingFits(_nothing(candidates, choices, shape, machine, context, flash))
    on_cards = [c for c in usable if c.placement.full]
    if quality or on_cards:
        pool = usable if quality else on_cards
        order, reason = _by_quality(pool, machine, quality)
        why = [_where(pool, quality), reason]
    else:
        pool = [c for c in usable if c.file.quality is None or c.file.quality.kld.get("mean", 0) <= rules.MOST_KLD]
        pool = pool or usable
        order, reason = _by_speed(pool, machine, bench)
        why = [reason]
        if machine.vram:
            why.insert(0, "No file fits on the graphics cards as a whole, so that the processor has a part in it.")
    pool = sorted(pool, key=lambda choice: (order(choice), choice.file.bytes))
    best = pool[0]
    if not quality and not on_cards and rules.bits(best.file.like) < 4:
        why.append("No file with 4 bits fits.")
    why += _notes(best, machine, goal)
    return Advice(best, tuple(filter(None, why)), pool[1] if len(pool) > 1 else None)


def _nothing(
    candidates: Sequence[Candidate],
    choices: Sequence[Choice],
    shape: Shape,
    machine: Machine,
    context: int,
    flash: bool,
) -> str:
    if choices:
        right = "take another backend, or a release with K-quants that fit"
        return f"only I-quants or 16-bit files fit, which are not for {machine.backend}; {right}"
    least = min(candidates, key=lambda candidate: candidate.weights.total)
    needs = least.weights.total + shape.layers * shape.cache_bytes(context) + shape.buffer_bytes(context, flash)
    has = machine.room + (0 if machine.unified else sum(machine.rooms))
    return (
        f"no file fits: {least.file.name}, the smallest, needs {size_text(needs)} with {context} tokens of context and "
        f"there is room for {size_text(has)}; take a smaller model or a shorter context"
    )


Key = Callable[[Choice], tuple[float, ...]]


def _by_quality(pool: Sequence[Choice], machine: Machine, quality: bool) -> tuple[Key, str]:
    """Measured divergence where every file of the pool has it (16-bit files are the measure), else the rules."""
    measured = {c.file.name: c.file.quality.kld.get("mean") for c in pool if c.file.quality}
    measured |= {c.file.name: 0.0 for c in pool if c.file.like in rules.WIDE}
    if len(pool) > 1 and all(measured.get(c.file.name) is not None for c in pool):
        return (lambda c: (measured[c.file.name] or 0.0,)), "Of these it has the smallest measured KL divergence."
    return (lambda c: rules.by_quality(c.file.like, machine, quality)), ""


def _by_speed(pool: Sequence[Choice], machine: Machine, bench: Bench | None) -> tuple[Key, str]:
    """Measured generation where every four-bit file of the pool has it, else the rules."""
    rates = {row.ftype: row.rate for row in bench.rows if row.test == GENERATION} if bench else {}
    four = [c.file.ftype for c in pool if rules.bits(c.file.like) == 4]
    if four and not machine.vram and all(ftype in rates for ftype in four):
        order = sorted(four, key=lambda ftype: -rates[ftype])
        return (
            lambda c: rules.by_speed(c.file.ftype if c.file.ftype in order else c.file.like, order)
        ), "Of the 4-bit files it has the highest measured speed."
    order = rules.MIXED if machine.vram else rules.processor_order(machine)
    return (
        lambda c: rules.by_speed(c.file.like, order)
    ), "A processor reads every weight for every token: 4 bits are the fewest before quality falls fast."


def _where(pool: Sequence[Choice], quality: bool) -> str:
    if not quality:
        return "It is the best file that fits on the graphics cards as a whole, which is where speed comes from."
    if any(c.placement.layers for c in pool):
        return "It is the best file that fits in graphics and main memory together."
    return "It is the best file that fits in main memory."


def _notes(best: Choice, machine: Machine, goal: str) -> list[str]:
    ftype, notes = best.file.like, []
    if rules.is_i(ftype) and rules.bits(ftype) < 4 and machine.backend in ("cuda", "rocm"):
        notes.append("Below 4 bits an I-quant is better for its size, and this backend runs it well.")
    elif rules.is_i(ftype) and not machine.vram:
        notes.append("An I-quant is slower on a processor than a K-quant of its size.")
    if machine.backend == "vulkan":
        notes.append("Vulkan is no place for I-quants, so only others were considered.")
    if ftype == "Q4_0" and not machine.vram:
        notes.append("llama.cpp repacks it for this processor while loading.")
    if goal == "speed" and 0 < rules.bits(ftype) < 3:
        notes.append("With so few bits quality suffers: --goal quality, or a smaller model, may serve you better.")
    return notes
