"""publish: one finished file, or its shards, to where the release goes. Whoever builds may let it go afterwards."""

import json
from pathlib import Path
from typing import NotRequired, TypedDict

from quantmill.artifact import Context
from quantmill.errors import QuantmillError
from quantmill.steps.step import Inputs, Step

FILES = "files/"


class Params(TypedDict):
    """`place`: the Hub repository, or the shared store's address. No part of the key: `hub`, whether it is the former,
    `tag`, the release's, and `private`, of a repository that is created."""

    place: str
    hub: NotRequired[bool]
    tag: NotRequired[str]
    private: NotRequired[bool]


def run(inputs: Inputs, params: Params, out: Path, context: Context) -> None:
    """Send the inputs `files/<name>`, and write `published.json`: their digests, once the place has confirmed them.

    `verify.json`, the file's report, is an input, so that nothing is sent that was not found right.
    """
    files = {name.removeprefix(FILES): file for name, file in inputs.items() if name.startswith(FILES)}
    total = sum(file.size for file in files.values())
    context.progress(0, total)
    if params.get("hub"):
        from huggingface_hub.utils.tqdm import disable_progress_bars

        from quantmill.network.uploading import File, have_there

        disable_progress_bars()  # a build has its own
        sent = [File(name, file.path, file.size, file.sha256) for name, file in sorted(files.items())]
        folder = f"{sent[0].name.partition('/')[0]}/" if len(sent) > 1 else sent[0].name
        tag, private = params.get("tag", ""), params.get("private", False)
        have_there(params["place"], sent, f"Add {folder}", f"Release {tag}", _changed, tag, private)
    else:
        context.deliver(files.values())
    context.progress(total, total)
    facts = {name: {"sha256": file.sha256, "size": file.size} for name, file in files.items()}
    text = json.dumps({"place": params["place"], "files": facts}, indent=1, sort_keys=True, ensure_ascii=False)
    (out / "published.json").write_text(text + "\n", encoding="utf-8")


def _changed(path: Path) -> QuantmillError:
    return QuantmillError(f"{path}: it was changed while it was sent; build the release again")


STEP = Step(
    name="publish",
    version=1,
    doc="send a finished file to where the release goes",
    run=run,
    outputs=("published.json",),
    here=True,  # whoever builds has the right to
)
