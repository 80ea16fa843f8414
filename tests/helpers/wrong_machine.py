"""A machine that computes wrongly: one bit of each quantized file is another. For a process's sitecustomize.py."""

from pathlib import Path

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


def wrong_machine(folder: Path, path: str = "") -> str:
    """PYTHONPATH of a process that computes wrongly; `path`: what PYTHONPATH is now."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(FLIP)
    return f"{folder}:{path}" if path else str(folder)
