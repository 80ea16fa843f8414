"""Build the site of all pages: python docs/site/build.py [FOLDER]. It needs mkdocs-material, and no network.

Pages keep their places in the repository, so that their links hold; a link that leads nowhere fails the build.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PAGES = ("*.md", "docs/*.md", "recipes/*.md", "recipes/tiny/*.md", "cache/*.md", "benchmarks/*.md")
BESIDE = ("LICENSE", "NOTICE", "docs/gallery/*.svg", "docs/gallery/*.png")  # what pages show or link to


def main() -> None:
    """Into FOLDER, or build/site."""
    target = Path(sys.argv[1] if sys.argv[1:] else ROOT / "build" / "site").absolute()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for path in (path for pattern in (*PAGES, *BESIDE) for path in ROOT.glob(pattern)):
            copy = work / "pages" / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        shutil.copy(HERE / "mkdocs.yml", work)
        call = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(work / "mkdocs.yml")]
        code = subprocess.run([*call, "-d", str(target)], check=False).returncode
    print(target if code == 0 else "the site was not built")
    sys.exit(code)


if __name__ == "__main__":
    main()
