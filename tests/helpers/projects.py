"""Small recipes in folders of their own, built as a person builds them."""

import os
import random
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from disks import heed_rights

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
TINY = ROOT / "recipes" / "tiny"

RECIPE = """
llama_cpp = "b5490"
prefix = "small"

[base]
path = "tiny"
name = "Small"

[quants]
matrix = ["BF16", "Q8_0", "Q4_K_M", "Q2_K"]
"""
# A process of which one bit of each quantized file is another.
FLIP = """
import sys
from importlib import util


class Finder:
    def find_spec(self, name, path, target=None):
        if name != "quantmill.steps.quant":
            return None
        sys.meta_path.remove(self)
        spec = util.find_spec(name)
        load = spec.loader.exec_module

        def execute(module):
            load(module)
            run = module.run

            def wrong(inputs, params, out, context):
                made = run(inputs, params, out, context)
                from quantmill import gguf

                path = out / "model.gguf"
                with gguf.read(path) as file:
                    name, info = max(file.tensors.items(), key=lambda item: item[1].nbytes)
                    at = file.data_offset + info.offset + info.nbytes // 2
                with open(path, "r+b") as file:
                    file.seek(at)
                    byte = file.read(1)[0]
                    file.seek(at)
                    file.write(bytes([byte ^ 4]))
                return made

            object.__setattr__(module.STEP, "run", wrong)

        spec.loader.exec_module = execute
        return spec


sys.meta_path.insert(0, Finder())
"""
ALL_TASKS = sorted(
    ["download:small", "convert:small", "preflight:small", "index:small", "card:small", "release:small"]
    + [f"{step}:small/{ftype}" for step in ("split", "verify") for ftype in ("BF16", "Q8_0", "Q4_K_M", "Q2_K")]
    + [f"quant:small/{ftype}" for ftype in ("Q8_0", "Q4_K_M", "Q2_K")]
)
CALIBRATED = RECIPE.replace('["BF16", "Q8_0", "Q4_K_M", "Q2_K"]', '["IQ2_XXS", "Q2_K"]') + (
    '[calibration]\ntext = "text.txt"\nn_ctx = 128\n'
)


class Project:
    """A folder with a dodo.py and recipes, in which doit and quantmill run as a person runs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe = folder / "recipes" / "small.toml"

    def run(self, *command: str, check: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of this Python environment in the folder; its exit code must be `check` (None: any)."""
        done = subprocess.run(
            [str(Path(sys.executable).parent / command[0]), *command[1:]],
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            preexec_fn=heed_rights,
        )
        assert check is None or done.returncode == check, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def killed(self, rng: random.Random, times: int, *command: str, **environment: str) -> None:
        """Begin a program again and again, killed at a random moment each time, of its whole group."""
        for _ in range(times):
            process = subprocess.Popen(
                [str(Path(sys.executable).parent / command[0]), *command[1:]],
                cwd=self.folder,
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0.1, 2.5))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def ran(self, *command: str, **environment: str) -> list[str]:
        """The names of the tasks that a run computed, sorted."""
        lines = self.run(*command, **environment).stdout.splitlines()
        return sorted(line.split(": ")[0] for line in lines[:-1] if ":" in line and ": from " not in line)

    def edit(self, old: str, new: str) -> None:
        """Replace a text of the recipe, which must be there."""
        text = self.recipe.read_text()
        assert old in text
        self.recipe.write_text(text.replace(old, new))

    def release(self) -> dict[str, bytes]:
        """Every file of the finished release by its path, but the signature, which is its signer's."""
        tree = self.folder / "release" / "small"
        files = {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}
        files.pop("provenance.dsse.json", None)
        return files


def new_project(folder: Path, text: str = RECIPE) -> Project:
    """A project with the recipe `small` over a copy of the tiny model."""
    (folder / "recipes").mkdir(parents=True)
    (folder / "dodo.py").write_text((ROOT / "dodo.py").read_text().replace('default="tiny"', 'default="small"'))
    model = folder / "recipes" / "tiny"
    model.mkdir()
    for path in TINY.iterdir():
        if path.suffix in (".json", ".safetensors"):
            shutil.copy(path, model / path.name)
    (folder / "recipes" / "small.toml").write_text(text)
    return Project(folder)


def wrong_machine(folder: Path, path: str = "", which: str = "max") -> str:
    """PYTHONPATH of a process that computes wrongly; `path`: what PYTHONPATH is now; `which`: whether the largest
    tensor is wrong (max) or the smallest (min)."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FLIP.replace("max(", f"{which}("))
    return f"{folder}:{path}" if path else str(folder)
