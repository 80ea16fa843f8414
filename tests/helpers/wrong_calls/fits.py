"""Wrong calls of `fit`."""

from collections.abc import Iterator

from wrong_calls import USE, Wrong


def fits() -> Iterator[Wrong]:
    yield from (
        Wrong("fit m.gguf out --imatrix i.dat -f text", USE, "--bits --size --like"),
        Wrong("fit m.gguf out --bits 4 --like Q4_0 --imatrix i.dat -f text", USE, "not allowed with"),
        Wrong("fit m.gguf out --bits none --imatrix i.dat -f text", USE, "bits a weight"),
        Wrong("fit m.gguf out --bits nan --imatrix i.dat -f text", USE, "bits a weight"),
        Wrong("fit m.gguf out --size none --imatrix i.dat -f text", USE, "not a size"),
        Wrong("fit m.gguf out --like Q4_M --imatrix i.dat -f text --n-ctx 64", USE, "Q4_M"),
        Wrong("fit m.gguf out --bits 6 --imatrix i.dat -f text --n-ctx 64 --types Q4_0,Q9", USE, "Q9"),
        Wrong("fit m.gguf out --bits 6 --imatrix i.dat -f text --n-ctx 64 --types Q4_K", USE, "allow none of"),
        Wrong("fit m.gguf out --bits 1 --imatrix i.dat -f text --n-ctx 64", USE, "smaller than the types allow"),
        Wrong("fit m.gguf out --bits 6 --imatrix i.dat -f text --llama-cpp b4867", USE, "no --tensor-type"),
        Wrong("fit m.gguf out --bits 6 --imatrix i.dat -f text --export e --llama-cpp b5490", USE, "tensor-type-file"),
        Wrong("fit m.gguf m.gguf --bits 6 --imatrix i.dat -f text", USE, "m.gguf"),
        Wrong("fit m.gguf /dev/null --bits 6 --imatrix i.dat -f text", USE, "folder to work in"),
        Wrong("fit m.gguf none/out --bits 6 --imatrix i.dat -f text", USE, "none"),
        Wrong("fit m.gguf out --bits 6 --imatrix none -f text --n-ctx 64", USE, "none"),
        Wrong("fit m.gguf out --bits 6 --imatrix i.dat -f none", USE, "none"),
        Wrong("fit m.gguf out --bits 6 --imatrix i.dat -f text --n-ctx 64 -e none", USE, "none"),
        Wrong("fit m.gguf out --bits 6 --imatrix i.dat -f text --n-ctx 64 -e text", USE, "another text"),
        Wrong("fit m.gguf out --bits 6 --imatrix i.dat -f text --chunks 0", USE, "--chunks"),
        Wrong("fit m.gguf out --bits 6 --imatrix i.dat -f text --memory none", USE, "--memory"),
        Wrong("fit m.gguf out --bits 6 --imatrix i.dat -f text --threads 0", USE, "--threads"),
        Wrong("fit none out --bits 6 --imatrix i.dat -f text", USE, "none"),
        Wrong("fit folder out --bits 6 --imatrix i.dat -f text", USE, "folder"),
        Wrong("fit bytes out --bits 6 --imatrix i.dat -f text", USE, "bytes"),
        Wrong("fit q.gguf out --bits 6 --imatrix i.dat -f text --n-ctx 64", USE, "is Q8_0 in the base; start from"),
    )
