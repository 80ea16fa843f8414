"""Makes the README's pictures from the default recipe: `python docs/gallery/make.py` in an environment with quantmill.

Every picture is what the commands print or write in a fresh folder with the repository's recipes; lines left out are
marked. The report is opened in Chromium, which has to be on PATH.
"""

import io
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WIDTH = 100
PAGE = "1230,1500"  # pixels of the report that are shown
OVERRIDE = '\n[[quants.override]]\nftypes = ["Q4_K_M"]\ntensors = { "attn_v" = "Q8_0" }\n'


def main() -> None:
    """Write plan.svg, build.svg, choose.svg, card.svg, chart.svg and report.png beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        shutil.copy(ROOT / "dodo.py", project)
        (project / "recipes").mkdir()
        for name in ("tiny", "tiny.toml", "tiny.lock", "inf-o1-pi0.toml", "inf-o1-pi0.lock"):
            copy = shutil.copytree if (ROOT / "recipes" / name).is_dir() else shutil.copy
            copy(ROOT / "recipes" / name, project / "recipes" / name)

        def shown(*command: str, first: int = 1000, last: int = 0) -> str:
            program = str(Path(sys.executable).parent / command[0])
            done = subprocess.run(
                [program, *command[1:]], cwd=project, capture_output=True, text=True, check=True, env=environment()
            )
            lines = done.stdout.splitlines()
            if len(lines) > first + last:
                lines = [*lines[:first], f"  … {len(lines) - first - last} lines …", *lines[len(lines) - last :]]
            return "\n".join([f"$ {' '.join(command)}", *lines])

        plan = shown("quantmill", "plan", "tiny")
        build = [shown("doit", first=12, last=4), shown("doit")]
        release = project / "release" / "tiny"
        card = (release / "README.md").read_text()
        shutil.copyfile(release / "chart.svg", HERE / "chart.svg")
        screenshot(release / "report.html", HERE / "report.png")
        recipe = project / "recipes" / "tiny.toml"
        recipe.write_text(recipe.read_text() + OVERRIDE)
        build.append("$ tail -3 recipes/tiny.toml" + OVERRIDE.rstrip("\n"))
        build.append(shown("doit"))
        machine = ("--backend", "cuda", "--vram", "24", "--ram", "64")
        choose = shown("quantmill", "choose", "inf-o1-pi0", *machine)  # of tiny's files any machine holds the largest
    picture("plan", "quantmill plan", Text(plan))
    picture("build", "doit", Text("\n\n".join(build)))
    picture("choose", "quantmill choose", Text(choose))
    picture("card", "release/tiny/README.md", Markdown(excerpt(card)), width=150)


def screenshot(page: Path, image: Path) -> None:
    """The top of a page, as a browser without a window shows it."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={PAGE}"]
    command = ["chromium", *options, f"--screenshot={image}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True)


def environment() -> dict[str, str]:
    """Without a store of one's own, whose hits would be in the pictures."""
    return {key: value for key, value in os.environ.items() if not key.startswith("QUANTMILL_")}


def excerpt(page: str, rows: int = 12) -> str:
    """The page from its title to the first rows of its table of files, without the links to the other languages, whose
    wide characters no terminal's picture can place."""
    lines = [line for line in page[page.index("\n# ") :].splitlines() if not line.startswith("**English**")]
    table = next(at for at, line in enumerate(lines) if line.startswith("| ---"))
    return "\n".join([*lines[: table + 1 + rows], "", "…"])


def picture(name: str, title: str, content: Text | Markdown, width: int = WIDTH) -> None:
    """One SVG, the same for the same content."""
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(content)
    text = console.export_svg(title=title, unique_id=f"quantmill-{name}")
    (HERE / f"{name}.svg").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
