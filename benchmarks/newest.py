"""Does quantmill write what the newest llama.cpp writes? Admit the newest library on PyPI, or say what differs.

    python benchmarks/newest.py [--build N] [--every N] [--again] [--to FILE]

pip fetches llama-cpp-py-sync, whose versions end in llama.cpp's build number, into a temporary folder; nothing of it is
installed or imported. An admission is entered in src/quantmill/reference/admissions.json, to be committed. Exit code 0
where the build is admitted, now or before; 1 where its files differ, with the sentence.
"""

import argparse
import os
import platform
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from quantmill.reference.admissions import own

PACKAGE = "llama-cpp-py-sync"
ROOT = Path(__file__).parents[1]
BUILT_FOR = (2, 38)  # glibc of the wheels; an older one lacks what SHIM has
VERSION_NEEDS = 0x6FFFFFFE  # SHT_GNU_verneed
WEAK = 2  # VER_FLG_WEAK
SHIM = """
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
long __isoc23_strtol(const char *s, char **e, int b) { return strtol(s, e, b); }
long long __isoc23_strtoll(const char *s, char **e, int b) { return strtoll(s, e, b); }
unsigned long __isoc23_strtoul(const char *s, char **e, int b) { return strtoul(s, e, b); }
unsigned long long __isoc23_strtoull(const char *s, char **e, int b) { return strtoull(s, e, b); }
int __isoc23_sscanf(const char *s, const char *f, ...) {
    va_list a;
    va_start(a, f);
    int r = vsscanf(s, f, a);
    va_end(a);
    return r;
}
"""


def fetch(folder: Path, build: int | None) -> tuple[str, Path]:
    """The tag of a build, or of the newest, and the folder of its library."""
    wanted = PACKAGE if build is None else f"{PACKAGE}==0.{build}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "--dest", str(folder), wanted], check=True, stdout=sys.stderr)
    (wheel,) = folder.glob("*.whl")
    version = re.match(r"llama_cpp_py_sync-0\.([0-9]+)-", wheel.name)
    if version is None:
        raise SystemExit(f"{wheel.name}: its version does not end in a build number")
    with zipfile.ZipFile(wheel) as file:
        libraries = [name for name in file.namelist() if re.fullmatch(r"[^/]+/lib(llama|ggml)[^/]*\.so[.0-9]*", name)]
        file.extractall(folder, libraries)
    return f"b{version[1]}", folder / "llama_cpp_py_sync"


def fit(folder: Path) -> dict[str, str]:
    """Have an older glibc load the libraries; the environment that they need then."""
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split("."))) >= BUILT_FOR:
        return {}
    for path in folder.iterdir():
        path.write_bytes(relaxed(bytearray(path.read_bytes())))
    source, shim = folder / "shim.c", folder / "shim.so"
    source.write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(shim), str(source)], check=True)
    return {"LD_PRELOAD": str(shim)}


def relaxed(data: bytearray) -> bytearray:
    """A library of 64 bits that asks for versions of glibc from 2.36 on weakly."""
    (sections,) = struct.unpack_from("<Q", data, 0x28)
    size, count, _ = struct.unpack_from("<HHH", data, 0x3A)
    found = [struct.unpack_from("<IIQQQQIIQQ", data, sections + at * size) for at in range(count)]
    for section in found:
        if section[1] != VERSION_NEEDS:
            continue
        names, file = found[section[6]][4], section[4]
        while True:
            _, entries, _, first, following = struct.unpack_from("<HHIII", data, file)
            entry = file + first
            for _ in range(entries):
                _, flags, _, name, step = struct.unpack_from("<IHHII", data, entry)
                text = data[names + name : data.index(0, names + name)].decode()
                if re.fullmatch(r"GLIBC_2\.(3[6-9]|[4-9][0-9])", text):
                    struct.pack_into("<H", data, entry + 4, flags | WEAK)
                entry += step
            if not following:
                break
            file += following
    return data


def main() -> None:
    """Fetch, and admit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=int, metavar="N", help="this one instead of the newest")
    parser.add_argument("--every", default="1", metavar="N", help="compare each N-th file, for a look")
    parser.add_argument("--again", action="store_true", help="compare it although it is admitted")
    parser.add_argument("--to", type=Path, default=ROOT / "src/quantmill/reference/admissions.json", metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="quantmill-newest-") as name:
        tag, folder = fetch(Path(name), options.build)
        if not options.again and any(admission.tag == tag for admission in own()):
            print(f"{tag} is admitted already")
            return
        command = [sys.executable, "-m", "quantmill.cli", "admit", tag, "--lib", str(folder)]
        command += ["--every", options.every, "--to", str(options.to)]
        done = subprocess.run(command, env=os.environ | fit(folder), check=False)
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
