"""The page's table of memory: what `quantmill choose` says for speed on common machines."""

from quantmill.card.markdown import HARD, code, table
from quantmill.card.voice import Voice
from quantmill.choose.choice import Candidate, NothingFits, choose
from quantmill.choose.machine import GB, machine
from quantmill.choose.rules import bits
from quantmill.choose.shape import of_size
from quantmill.reference.ftypes import FTYPES

CONTEXT = 8192  # tokens, as the command's own
MEMORIES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)  # GB
MAIN = 1 << 42  # bytes beside a graphics card: enough for any token embedding
COLUMNS = ("cuda", "vulkan", "metal", "arm")


def advice(page: Voice) -> list[str]:
    """The table, with what introduces it; nothing where the architecture is not known or no row has a file. A graphics
    card's column names files that lie on it as a whole, with a dash where none does; sizes alone decide, so it is the
    same before a build."""
    rows = [[f"{memory}{HARD}GB", *(_file(page, backend, memory * GB) for backend in COLUMNS)] for memory in MEMORIES]
    last = next((at for at in range(len(rows), 0, -1) if at == 1 or rows[at - 1][1:] != rows[at - 2][1:]), 0)
    kept = [row for row in rows[:last] if any(row[1:])]
    if not kept:
        return []
    head = [page.words[f"choose.{key}"] for key in ("amount", *COLUMNS)]
    return [
        "",
        page.say("choose.table", context=CONTEXT),
        "",
        *table(head, "rllll", [[cell or "-" for cell in row] for row in kept]),
    ]


def _file(page: Voice, backend: str, memory: int) -> str:
    shape = page.facts.shape
    if shape is None:
        return ""
    vram, ram = ((memory,), MAIN) if backend in ("cuda", "vulkan") else ((), memory)
    # A tied embedding lies on the card too; any other has at least the bits of the file's name.
    numbers = 0 if page.facts.tied else shape.vocabulary * shape.width
    candidates = [
        Candidate(f, of_size(f.bytes, shape, numbers * _bits(f.like) // 8)) for f in page.facts.files if not f.twin
    ]
    try:
        best = choose(candidates, shape, machine(backend, vram, ram), "speed", CONTEXT).best
    except NothingFits:
        return ""
    whole = best.placement.full or backend == "arm"
    return code(best.file.ftype) if whole else ""


def _bits(ftype: str) -> int:
    found = FTYPES.get(ftype)
    return 8 if found is not None and found.embedding_and_output is not None else bits(ftype)
