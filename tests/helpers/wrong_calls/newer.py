"""Wrong calls of init, audit, admit and others, and of recipes with a table that is wrong, for the table of wrong
calls."""

from collections.abc import Iterator

from wrong_calls import USE, WORK, Wrong

_BASE = 'llama_cpp = "b11739"\n[base]\n{base}\n[quants]\nmatrix = ["Q8_0"]\n'
_PATH, _GGUF = 'path = "tiny"\nname = "Small"', 'gguf = "../m.gguf"'
# A recipe's name, its base, the tables behind, and what is said of them.
_RECIPES = (
    ("mm-of-gguf", _GGUF, "[mmproj]\ntypes = ['F16']", "mmproj: a GGUF base has no projector in it"),
    ("mm-none", _PATH, "[mmproj]", "mmproj.types: this key is missing"),
    ("mm-empty", _PATH, "[mmproj]\ntypes = []", "mmproj.types: [] is not right here"),
    ("mm-text", _PATH, "[mmproj]\ntypes = 'F16'", "mmproj.types"),
    ("mm-number", _PATH, "[mmproj]\ntypes = [1]", "mmproj.types"),
    ("mm-other", _PATH, "[mmproj]\ntypes = ['Q4_K']", "mmproj.types: 'Q4_K' is not one of"),
    ("mm-twice", _PATH, "[mmproj]\ntypes = ['f16', 'F16']", "mmproj.types: F16 is listed twice"),
    ("mm-key", _PATH, "[mmproj]\ntypes = ['F16']\nfiles = 2", "mmproj.files"),
    ("mm-table", _PATH, "mmproj = 1", "mmproj"),
    ("ev-none", _PATH, "[evaluation]", "evaluation"),
    ("ev-absent", _PATH, "[evaluation]\ntext = 'none.txt'", "none.txt"),
    ("ev-number", _PATH, "[evaluation]\ntext = 1", "evaluation.text"),
    ("ev-url", _PATH, "[evaluation]\nurl = 'ftp://x/y'\nsha256 = 'a'", "evaluation"),
    ("ev-chunks", _PATH, "[evaluation]\ntext = '../text'\nchunks = 0", "evaluation.chunks"),
    ("ev-minus", _PATH, "[evaluation]\ntext = '../text'\nchunks = -1", "evaluation.chunks"),
    ("ev-n_ctx", _PATH, "[evaluation]\ntext = '../text'\nn_ctx = 0", "evaluation.n_ctx"),
    ("ev-arithmetic", _PATH, "[evaluation]\ntext = '../text'\narithmetic = 'f64'", "evaluation.arithmetic"),
    ("ev-memory", _PATH, "[evaluation]\ntext = '../text'\nmemory = '5XB'", "evaluation.memory"),
    ("ev-with", _PATH, "[evaluation]\ntext = '../text'\nwith = 'vllm'", "evaluation.with"),
    ("ev-args", _PATH, "[evaluation]\ntext = '../text'\nargs = ['-b', '1']", "evaluation.args"),
    (
        "ev-taken",
        _PATH,
        "[evaluation]\ntext = '../text'\nwith = 'llama.cpp'\nargs = ['-m', 'x']",
        "evaluation.args: -m is given by",
    ),
    ("ev-gate", _PATH, "[verify]\nmax_kld = 0.1", "verify.max_kld: nothing is measured without a text"),
    ("ev-share", _PATH, "[evaluation]\ntext = '../text'\n[verify]\nmin_top1 = 2", "verify.min_top1"),
    ("ev-nan", _PATH, "[evaluation]\ntext = '../text'\n[verify]\nmax_kld = nan", "verify.max_kld"),
    ("co-with", _PATH, "[convert]\nwith = 'torch'", "convert.with"),
    ("co-gguf", _GGUF, "[convert]\nwith = 'llama.cpp'", "convert: a GGUF base is not converted"),
)
RECIPES = {name: _BASE.format(base=base) + tables + "\n" for name, base, tables, _ in _RECIPES}


def newer() -> Iterator[Wrong]:
    yield from _init()
    yield from _report()
    yield from _site()
    yield from _audit()
    yield from _others()
    for command in ("build", "plan", "lock", "card", "explain quant:{}/Q8_0"):
        for name, _, _, named in _RECIPES if command != "build" else _RECIPES[:9]:
            yield Wrong(f"{command.format(name)} {name}", USE, named)


def _init() -> Iterator[Wrong]:
    for name in ("EMPTY", "SPACES", "LINES", ".", "..", "a/b", ".hidden", "/new", "x" * 300):
        yield Wrong(f"init {name} --base m.gguf", USE, "")
    yield Wrong("init new", USE, "--base is missing")
    for call in ("new", "--base m.gguf", "--from q.gguf", "--model q", "--threads 2", "--llama-cpp b11739"):
        yield Wrong(f"init --ci {call}", USE, "--ci is of a project and no recipe")
    yield Wrong("init small --base m.gguf", USE, "small.toml: it exists")
    for base in ("none", "bytes", "empty", "text", "folder", "m.gguf/", "EMPTY", "SPACES", "LINES"):
        yield Wrong(f"init new --base {base}", USE, "")
        yield Wrong(f"init new --from {base}", USE, "")
    yield Wrong("init new --base s-00001-of-00002.gguf", USE, "one shard of 2")
    yield Wrong("init new --from s-00001-of-00002.gguf --base m.gguf", WORK, "s-00002-of-00002.gguf")
    for base in ("cut.gguf", "/dev/null", "loop"):
        code = USE if base in ("/dev/null", "loop") else WORK
        yield Wrong(f"init new --base {base}", code, base)
        yield Wrong(f"init new --from {base} --base m.gguf", code, base)
    for path in ("none", "folder", "bytes", "EMPTY", "m.gguf/", "/dev/null"):
        yield Wrong(f"init new --from q.gguf --base m.gguf --imatrix {path}", USE, "")
    yield Wrong("init new --base m.gguf --imatrix i.dat", USE, "--imatrix is for --from")
    for value in ("nobody", "EMPTY", "SPACES", "LINES"):
        yield Wrong(f"init new --base TINY --pre-tokenizer {value}", USE, "")
        yield Wrong(f"init new --from q.gguf --base TINY --pre-tokenizer {value}", USE, "")
        yield Wrong(f"init new --from q.gguf --base m.gguf --pre-tokenizer {value}", USE, "pre-tokenizer")
    yield Wrong("init new --base m.gguf --pre-tokenizer qwen2", USE, "--pre-tokenizer is for a base that is converted")
    for base in ("other", "i.dat", "recipes", "t-00002-of-00003.gguf"):
        yield Wrong(f"init new --base {base}", USE, base)
    for value in ("0", "-1", "x", "99999999", "1.5"):
        yield Wrong(f"init new --from q.gguf --base m.gguf --threads {value}", USE, "--threads")
    for value in ("b9999", "b1", "x", "EMPTY", "SPACES", "LINES"):
        yield Wrong(f"init new --base m.gguf --llama-cpp {value}", USE, "")
        yield Wrong(f"convert TINY out --llama-cpp {value}", USE, "")
    yield Wrong("init new --base m.gguf --model q", USE, "--model is for --from")
    for value in ("none", "EMPTY", "SPACES", "LINES"):
        yield Wrong(f"init new --from q.gguf --base m.gguf --model {value}", USE, "")


def _report() -> Iterator[Wrong]:
    for name in ("none", "m.gguf", "text", "folder", "other", "EMPTY", "SPACES", "LINES", "m.gguf/", "/dev/null"):
        yield Wrong(f"report {name}", USE, name.rstrip("/") if name.islower() else "")
    yield Wrong("report folder none", USE, "folder")
    yield Wrong("report", USE, "RELEASE")
    for value in (".", "folder", "none/out", "text/", "EMPTY", "loop"):
        yield Wrong(f"report other -o {value}", USE, value.removesuffix("/out").strip("EMPTY"))


def _site() -> Iterator[Wrong]:
    yield Wrong("site", USE, "RELEASE")
    yield Wrong("site out", USE, "RELEASE")
    for name in ("none", "m.gguf", "text", "folder", "other", "EMPTY", "SPACES", "LINES", "m.gguf/", "/dev/null"):
        yield Wrong(f"site out {name}", USE, name.rstrip("/") if name.islower() else "")
    for value in ("text", "m.gguf", "text/out", "EMPTY", "loop", "/dev/null", "."):
        yield Wrong(f"site {value} .", USE, value.removesuffix("/out").strip("EMPTY"))
    for value in ("EMPTY", "SPACES", "LINES"):
        yield Wrong(f"site out . --title {value}", USE, "--title")


def _audit() -> Iterator[Wrong]:
    for name, code in (
        ("none", USE),
        ("bytes", USE),
        ("empty", USE),
        ("text", USE),
        ("cut.gguf", WORK),
        ("other", USE),
    ):
        yield Wrong(f"audit {name} --base m.gguf", code, name)
        yield Wrong(f"audit q.gguf --base {name}", code, name)
        yield Wrong(f"show {name}", code, name)
    for value in ("0", "-1", "x", "200%", "nan", "EMPTY"):
        yield Wrong(f"audit q.gguf --base m.gguf --sample {value}", USE, "--sample")
    for value in ("-1", "x", "1.5", "9" * 30):
        yield Wrong(f"audit q.gguf --base m.gguf --sample 2% --seed {value}", USE, "--seed")
    yield Wrong("audit q.gguf --base m.gguf --seed 3", USE, "--seed is for a sample")
    for value in ("0", "-1", "x", "99999999", "1.5"):
        yield Wrong(f"audit q.gguf --base m.gguf --threads {value}", USE, "--threads")
    for value in (".", "folder", "none/out", "text/", "EMPTY", "loop", "q.gguf", "m.gguf", "i.dat"):
        yield Wrong(
            f"audit q.gguf --base m.gguf --imatrix i.dat --html {value}", USE, value.removesuffix("/out").strip("EMPTY")
        )
    yield Wrong("audit q.gguf --base m.gguf --tag b9999", USE, "b9999")
    for page in ("page.json", "./page.json", "page.vsa.json", "page.vsa.dsse.json"):
        yield Wrong(f"audit q.gguf --base m.gguf --json page.json --html {page}", USE, "--json writes this file")
    yield Wrong("audit q.gguf --base m.gguf --json text --html loop", USE, "loop")


def _others() -> Iterator[Wrong]:
    yield Wrong("choose cut.gguf", USE, "give the folder that holds it and others")
    yield Wrong("plan cut.gguf", USE, "quantmill init writes it")
    yield Wrong("diff folder other", USE, "quantmill report of two releases")
    yield Wrong("build small --dry-run", USE, "--dry-run")
    yield Wrong("build small --publish", USE, "publish.owner")
    yield Wrong("build small --engine dask --timings page.html", USE, "--timings")
    yield Wrong("build small --timings EMPTY", USE, "''")
    yield Wrong("build small --timings folder", USE, "folder: this is a folder")
    yield Wrong("build small --timings none/page.html", USE, "none: there is no such folder")
    yield Wrong("build small --publish --dry-run", USE, "publish.owner")
    yield Wrong("build small --publish --engine dask", USE, "--engine dask")
    for value in ("0", "-1", "x", "1.5"):
        yield Wrong(f"admit b5490 --lib folder --every {value}", USE, "--every")
        yield Wrong(f"generate m.gguf -p a --raw --activation-bits {value}", USE, "--activation-bits")
    yield Wrong("admit b5490 --lib folder --every 2 --share", USE, "--share is for what all files were compared of")
    yield Wrong("admit b5490 --lib folder --tools folder", USE, "--tools")
    yield Wrong("admit b5490", USE, "--lib")
    yield Wrong("admit b5490 --lib /dev/null", USE, "/dev/null: this is no file")
    yield Wrong("toolchain b11739 --from /dev/null --only converter --to new", USE, "/dev/null: this is no file")
    for option in ("--tls-cert", "--tls-key"):
        yield Wrong(f"build small --engine dask --scheduler tls://x {option} EMPTY", USE, "''")
        yield Wrong(f"build small {option} text", USE, option)
    for value in ("0", "-1", "x", "1.5", "EMPTY"):
        yield Wrong(f"reproduce folder --sample {value}", USE, "--sample")
    for value in ("EMPTY", "none", "folder"):
        yield Wrong(f"reproduce folder --key {value}", USE, "")
        yield Wrong(f"build small --check {value}", USE, "--check")
    yield Wrong("choose folder --mmproj F16", USE, "folder")
    yield Wrong("quantize m.gguf out Q8_0 --tensor-type-file none", USE, "none")
    yield Wrong("quantize m.gguf out Q8_0 --tensor-type-file bytes", USE, "bytes")
    for tag in ("x", "5490", "b", "b1/2", "-1"):
        yield Wrong(f"toolchain {tag} --from folder", USE, tag.removeprefix("-1"))
    yield Wrong("toolchain b11739 --from folder --only all", USE, "--only")
    yield Wrong("toolchain b11739 --from folder --only tools --python text", USE, "--python is not for --only tools")
    yield Wrong("toolchain b11739 --from folder --only converter --tools folder", USE, "--tools is not for --only")
    yield Wrong("toolchain b11739 --from folder --tools folder --cmake A=1", USE, "--cmake is for tools that are built")
    yield Wrong("toolchain b11739", USE, "--from")
    for shell in ("tcsh", "EMPTY", "Bash", "folder"):
        yield Wrong(f"completion {shell}", USE, "SHELL")
    yield Wrong("doctor small", USE, "small")
